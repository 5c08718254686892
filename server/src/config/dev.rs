//! `tocktower dev`: all in one process, on the loopback only.

use std::net::SocketAddr;
use std::path::PathBuf;

use tocktower_core::ids::AgentName;

use super::read::Reader;
use super::values;
use crate::args::DevArgs;
use crate::host;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevConfig {
    pub listen: SocketAddr,
    pub data_dir: PathBuf,
    pub sample: bool,
    pub name: AgentName,
}

pub fn read(reader: &mut Reader, args: &DevArgs) -> Option<DevConfig> {
    let listen = reader.value("listen", &args.listen, "127.0.0.1:7080", values::address);
    let data_dir = match reader.data_home() {
        Some(home) => {
            let default = home.join("tocktower").display().to_string();
            reader.value("data-dir", &args.data_dir, &default, values::folder)
        }
        None => reader.optional("data-dir", &args.data_dir, values::folder),
    };
    let sample = reader.value("sample", &args.sample, "false", values::truth);
    let name = reader.value("name", &args.name, &host::name(), values::agent_name);
    if data_dir.is_none() && !reader.refused("data-dir") {
        reader.missing("data-dir", "HOME is not set, so the path of a folder is needed");
    }
    if listen.is_some_and(|address| !address.ip().is_loopback()) {
        let allowed = "dev serves without TLS and tokens, so a loopback address is allowed; for \
                       other hosts run a coordinator and agents";
        reader.refuse_as_given("listen", allowed.to_owned());
    }
    Some(DevConfig { listen: listen?, data_dir: data_dir?, sample: sample?, name: name? })
}
