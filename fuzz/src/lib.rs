//! The codec and its checker, as the fuzz targets include them.

#[path = "../../src/http1/mod.rs"]
pub mod http1;
#[path = "../../tests/rfc9112/mod.rs"]
pub mod rfc9112;
