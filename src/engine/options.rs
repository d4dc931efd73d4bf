//! Socket options of data streams, set before they connect or right after they were accepted.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, SockRef};

use crate::proto::message::SocketOptions;
use crate::sys::socket::set_max_pacing_rate;

/// Unacknowledged data may stay so long before the connection counts as lost.
const USER_TIMEOUT: Duration = Duration::from_secs(20);
/// The DiffServ code point is the upper six bits of the byte.
const DSCP_SHIFT: u32 = 2;

/// An option that the system refuses.
#[derive(Debug, thiserror::Error)]
#[error("{option}: {error}")]
pub struct OptionError {
    /// As on the command line.
    pub option: String,
    /// The system's answer.
    pub error: io::Error,
}

/// Set them all on a socket of `domain`.
pub fn apply<S: AsFd>(sock: &S, domain: Domain, options: &SocketOptions) -> Result<(), OptionError> {
    let fd = sock.as_fd();
    let sock = SockRef::from(sock);
    let named = |option: &str, result: io::Result<()>| {
        result.map_err(|error| OptionError { option: option.to_string(), error })
    };
    if let Some(name) = &options.congestion {
        named(&format!("congestion control {name}"), sock.set_tcp_congestion(name.as_bytes()))?;
    }
    if let Some(bytes) = options.send_buffer {
        named(&format!("--send-buffer {bytes}"), sock.set_send_buffer_size(bytes as usize))?;
    }
    if let Some(bytes) = options.receive_buffer {
        named(&format!("--receive-buffer {bytes}"), sock.set_recv_buffer_size(bytes as usize))?;
    }
    if let Some(bytes) = options.mss {
        named(&format!("--mss {bytes}"), sock.set_tcp_mss(bytes))?;
    }
    if let Some(dscp) = options.dscp {
        let class = dscp << DSCP_SHIFT;
        named(
            &format!("--dscp {dscp}"),
            if domain == Domain::IPV4 { sock.set_tos_v4(class) } else { sock.set_tclass_v6(class) },
        )?;
    }
    if let Some(bytes_per_s) = options.pace {
        named(&format!("--pace of {bytes_per_s} bytes/s"), set_max_pacing_rate(fd, bytes_per_s))?;
    }
    named("TCP_NODELAY", sock.set_tcp_nodelay(options.nodelay))?;
    named("TCP_USER_TIMEOUT", sock.set_tcp_user_timeout(Some(USER_TIMEOUT)))
}

/// The congestion control that a socket uses.
pub fn congestion_of<S: AsFd>(sock: &S) -> String {
    let name = SockRef::from(sock).tcp_congestion().unwrap_or_default();
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    String::from_utf8_lossy(&name[..end]).into_owned()
}
