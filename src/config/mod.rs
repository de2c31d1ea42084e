//! Layer 2: what the operator wrote. A file becomes a [`settings::Config`], or a list of every
//! problem in it.

pub mod settings;
