//! Layer 6: sockets. The main thread creates the listening ones; workers accept and dial.

pub mod connect;
pub mod http1;
pub mod http2;
pub mod listen;
mod plain;
pub mod pool;
pub mod proxy_protocol;
pub mod read_size;
pub mod shortage;
pub mod stream;
pub mod target_stream;
pub mod timer;
pub mod tls;
