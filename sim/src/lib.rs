//! Whole runs under virtual time: the real decisions of the coordinator ([`rounds::turn`]) and of
//! the members ([`rounds::decide`]), a toy in place of training, and a network, disks and processes
//! that fail as a seed says.
//!
//! A message may be late, lost, doubled or overtaken; members may be cut off, freeze, crash at any
//! moment and come back from what their disk has; the coordinator may crash between deciding and
//! saving, come back, and come back with an older store or none. After every turn the judge
//! ([`judge`]) looks at what the world has come to; after the last fault the run has to come to
//! its end.
//!
//! It lacks sockets, libtorch, and the order in which a rank asks its sources. Tests with real
//! processes have those.

mod coordinator;
mod faults;
mod island;
mod judge;
mod many;
mod rng;
mod world;

pub use judge::Fault;
pub use many::{Report, many};
pub use world::{Outcome, Trace, simulate};
