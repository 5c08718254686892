//! Makes tasks of what other schedulers have.

pub mod crontab;
