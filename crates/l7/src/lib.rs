//! The layer-7 proxy engine.
pub mod buffer;
pub mod h1;
pub mod reactor;
