//! Listening sockets: one for each worker and address, all created before anything runs, so that a
//! port in use fails the start with a message instead of failing requests later.

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Connections the kernel queues between two accepts. It lowers the number to `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;

/// Cause of a failed bind.
#[derive(Debug)]
pub struct BindError {
    address: SocketAddr,
    cause: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address;
        match self.cause.kind() {
            io::ErrorKind::AddrInUse => {
                write!(f, "cannot listen on {address}: address already in use")?;
                if let Some(owner) = owner_of(address) {
                    write!(f, " by {owner}")?;
                }
                Ok(())
            }
            io::ErrorKind::PermissionDenied => write!(
                f,
                "cannot listen on {address}: permission denied; ports below 1024 need \
                 CAP_NET_BIND_SERVICE"
            ),
            io::ErrorKind::AddrNotAvailable => {
                write!(f, "cannot listen on {address}: it is not an address of this machine")
            }
            _ => write!(f, "cannot listen on {address}: {}", self.cause),
        }
    }
}

impl std::error::Error for BindError {}

/// Binds one socket a worker to an address. With port 0 the kernel chooses once and all share the
/// port.
///
/// The address is first bound without SO_REUSEPORT and released: with SO_REUSEPORT alone, a second
/// Stayput (or another program of the same user) would share the port silently and take half of the
/// connections.
///
/// # Errors
/// If the address is in use, not local, or not permitted.
pub(crate) fn bind(address: SocketAddr, workers: usize) -> Result<Vec<TcpListener>, BindError> {
    let attempt = || -> io::Result<Vec<TcpListener>> {
        let probe = socket(address, false)?;
        let address = probe.local_addr()?.as_socket().unwrap_or(address);
        drop(probe);
        (0..workers).map(|_| socket(address, true).map(TcpListener::from)).collect()
    };
    attempt().map_err(|cause| BindError { address, cause })
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // "[::]:80" is IPv6 only: the socket listens on exactly the written address.
        socket.set_only_v6(true)?;
    }
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit this on Linux, which saves a system call a connection.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// The process that listens on an address according to /proc: `nginx (pid 1234)`.
fn owner_of(address: SocketAddr) -> Option<String> {
    let inode = listening_inode(address)?;
    let wanted = format!("socket:[{inode}]");
    let processes = std::fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    for process in processes {
        let pid = process.file_name().into_string().ok()?;
        if !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let holds = descriptors
            .filter_map(Result::ok)
            .filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .any(|link| link.as_os_str() == wanted.as_str());
        if holds {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", name.trim()));
        }
    }
    None
}

/// The inode of the socket that listens on the address's port, from the kernel's table.
fn listening_inode(address: SocketAddr) -> Option<String> {
    const LISTEN: &str = "0A";
    let table = if address.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    let port = format!("{:04X}", address.port());
    let table = std::fs::read_to_string(table).ok()?;
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let same_port = local.rsplit(':').next() == Some(port.as_str());
        (same_port && *state == LISTEN).then(|| (*inode).to_owned())
    })
}

/// The action after a failed accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcceptFailure {
    /// Accept the next connection at once: this one was gone before it was accepted.
    Connection,
    /// Pause accepting until descriptors or memory are available again.
    Exhausted,
}

/// Classifies an error of `accept(2)`. Any error that does not concern this one connection counts
/// as exhaustion, because accepting again at once would spin.
pub(crate) fn sort_accept_error(error: &io::Error) -> AcceptFailure {
    match error.kind() {
        io::ErrorKind::ConnectionAborted
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionRefused
        | io::ErrorKind::Interrupted => AcceptFailure::Connection,
        _ => AcceptFailure::Exhausted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_balancer_on_a_port_fails_with_the_name_of_the_first() {
        let first = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let address = first[0].local_addr().unwrap();
        assert_eq!(first[1].local_addr().unwrap(), address);
        let message = bind(address, 1).unwrap_err().to_string();
        let ours = format!("(pid {})", std::process::id());
        assert!(message.contains(&format!("{address}: address already in use by ")), "{message}");
        assert!(message.ends_with(&ours), "{message}");
    }

    #[test]
    fn an_address_of_another_machine_is_reported_as_such() {
        let message = bind("192.0.2.1:0".parse().unwrap(), 1).unwrap_err().to_string();
        assert!(
            message.ends_with("192.0.2.1:0: it is not an address of this machine"),
            "{message}"
        );
    }
}
