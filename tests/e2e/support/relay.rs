//! A road to etcd that can be closed: what one daemon sees when its network is gone, while all
//! others see nothing of it.

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub struct Relay {
    pub endpoint: String,
    open: watch::Sender<bool>,
}

impl Relay {
    /// Carries what comes to `endpoint` on to `target`, which is `http://<host>:<port>`.
    pub async fn start(target: &str) -> Relay {
        let target = target.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("its address"));
        let (open, opened) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if *opened.borrow() {
                    tokio::spawn(carry(stream, target.clone(), opened.clone()));
                }
            }
        });
        Relay { endpoint, open }
    }

    /// Ends every connection, and takes no other.
    pub fn close(&self) {
        self.open.send_replace(false);
    }

    pub fn open(&self) {
        self.open.send_replace(true);
    }
}

async fn carry(mut stream: TcpStream, target: String, mut opened: watch::Receiver<bool>) {
    let Ok(mut onward) = TcpStream::connect(target).await else { return };
    tokio::select! {
        // Either end may break it off.
        _ = copy_bidirectional(&mut stream, &mut onward) => {}
        _ = opened.wait_for(|open| !open) => {}
    }
}
