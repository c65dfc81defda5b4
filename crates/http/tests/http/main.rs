//! The engine of HTTP/2 from outside: against itself through a bad network, against a hostile peer,
//! and rule by rule of the standards. Everything follows from a seed.

mod answers;
mod bounds;
mod hostile;
mod network;
mod peer;
mod random;
mod rules;
