//! Targets, clients, programs and balancers from which tests are built.

pub mod announced_origin;
pub mod browser;
pub mod certificates;
pub mod daemon;
pub mod frames;
pub mod http2;
pub mod http2_origin;
pub mod origin;
pub mod panics;
pub mod program;
pub mod secure;
pub mod stack;
pub mod terminator;
pub mod token;
pub mod tool;
pub mod visitor;
pub mod wait;
pub mod world;

pub use announced_origin::AnnouncedOrigin;
pub use browser::Browser;
pub use certificates::Authority;
pub use daemon::Daemon;
pub use frames::Frames;
pub use http2::Http2;
pub use http2_origin::Http2Origin;
pub use origin::Origin;
pub use program::Program;
pub use secure::SecureOrigin;
pub use terminator::Terminator;
pub use tool::Tool;
pub use visitor::Visitor;
pub use wait::until;
pub use world::World;
