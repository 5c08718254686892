//! The near tier of the timing index: what is due within the horizon, in memory.

pub mod wheel;
