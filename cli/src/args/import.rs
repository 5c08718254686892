//! `tock import …`.
//!
//! An import writes many tasks at once and is often run by people who do not know this system yet,
//! so each option says what it is for, and the safe way is the one without options: every line
//! good, or nothing is written. The kind of scheduler is a command of its own, as what has to be
//! told about a crontab (a user column, a zone) makes no sense for another.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::task::EveryAgent;

#[derive(Subcommand, Debug)]
pub enum ImportCommand {
    /// Make tasks of the jobs of crontabs
    Crontab(Crontab),
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  crontab -l | tock import crontab - --name alice --user alice
  tock import crontab /etc/crontab /etc/cron.d/certbot --system --dry-run
  tock import crontab legacy.crontab --zone Europe/Berlin --namespace ops

Importing a file again changes nothing, and updates jobs whose settings have changed. Nothing is
written unless every line of every file is good, or --keep-going is given.")]
pub struct Crontab {
    /// Crontabs; - is the standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// There is a user between the schedule and the command, as in /etc/crontab
    #[arg(long)]
    pub system: bool,
    /// Show the tasks, and write nothing; needs no server
    #[arg(long)]
    pub dry_run: bool,
    /// Import the good lines although others are refused
    #[arg(long)]
    pub keep_going: bool,
    /// Time zone of lines without a CRON_TZ [default: this host's]
    #[arg(long, value_name = "ZONE")]
    pub zone: Option<String>,
    /// Whose crontab it is: the tasks run as this user [default: the agent's own]
    #[arg(long, value_name = "USER", conflicts_with = "system")]
    pub user: Option<String>,
    /// Beginning of the tasks' names [default: stem of the file]
    #[arg(long, value_name = "STEM")]
    pub name: Option<String>,
    /// Pool whose agents run the tasks [default: default]
    #[arg(long, value_name = "POOL")]
    pub pool: Option<String>,
    /// Agent that runs the tasks, and no other: as on the host that the crontab is from
    #[arg(long, value_name = "NAME", conflicts_with = "pool")]
    pub agent: Option<String>,
    #[command(flatten)]
    pub every_agent: EveryAgent,
}
