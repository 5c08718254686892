//! Stories of one agent's core, told by hand: what is asked of the shared state is answered as the
//! story says, and time moves only when the story moves it. The simulator walks at random through
//! many agents; here stands one rule at a time, with the words for it.

mod adopt;
mod bounds;
mod broadcast;
mod clock;
mod drain;
mod edited;
mod handoff;
mod late;
mod once;
mod order;
mod pins;
mod priors;
mod quarantine;
mod refused;
mod restored;
mod retake;
mod rota;
mod shared;
mod silent;
mod stalled;
mod standby;
mod stopped;
mod store;
mod versions;
mod words;
mod world;
