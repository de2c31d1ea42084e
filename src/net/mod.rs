//! Layer 7: sockets. The main thread creates the listening ones; workers accept and dial.

pub(crate) mod connect;
pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod listen;
mod plain;
pub(crate) mod pool;
pub(crate) mod proxy_protocol;
pub(crate) mod read_size;
pub(crate) mod shortage;
pub(crate) mod stream;
pub(crate) mod target_stream;
pub(crate) mod timer;
pub(crate) mod tls;
