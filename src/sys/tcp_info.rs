//! TCP_INFO: what the kernel knows about a TCP connection.
//!
//! Only reads and translates. Sums and medians over connections are `measure::tcp`'s.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What the kernel knows about one TCP connection.
///
/// Fields that an older kernel does not have are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// State, as `TCP_ESTABLISHED` (1) and so on in the kernel's `tcp_states.h`.
    pub state: u8,
    /// Smoothed round-trip time, µs.
    pub rtt_us: u32,
    /// Variation of the round-trip time, µs.
    pub rttvar_us: u32,
    /// Least round-trip time, µs; 0 if there was no sample yet.
    pub min_rtt_us: u32,
    /// Congestion window, segments.
    pub snd_cwnd_segments: u32,
    /// Slow-start threshold, segments; `0x7fff_ffff` before the first loss.
    pub snd_ssthresh_segments: u32,
    /// Maximum segment size towards the peer, bytes.
    pub snd_mss_bytes: u32,
    /// Segments sent and not yet acknowledged.
    pub unacked_segments: u32,
    /// Segments sent again, over the life of the connection.
    pub total_retrans: u32,
    /// Segments with data sent, over the life of the connection, those sent again included.
    pub data_segs_out: u32,
    /// Since data was last sent, ms.
    pub last_data_sent_ms: u32,
    /// Since data last arrived, ms.
    pub last_data_recv_ms: u32,
    /// The latest estimate of the delivery rate, bytes/s.
    pub delivery_rate_bytes_per_s: u64,
    /// Whether the program, not the network, limited that estimate.
    pub delivery_rate_app_limited: bool,
    /// Pace at which the kernel sends, bytes/s; `u64::MAX` when it does not pace.
    pub pacing_rate_bytes_per_s: u64,
    /// Time with unacknowledged data in flight, µs.
    pub busy_time_us: u64,
    /// … of it held back by the receiver's window, µs.
    pub rwnd_limited_us: u64,
    /// … of it held back by the send buffer, µs.
    pub sndbuf_limited_us: u64,
    /// Bytes that the peer has acknowledged.
    pub bytes_acked: u64,
    /// Bytes that have arrived in order.
    pub bytes_received: u64,
    /// Bytes in the send buffer that were not yet sent once.
    pub notsent_bytes: u32,
    /// Window that the peer last advertised, bytes.
    pub snd_wnd_bytes: u32,
}

/// Reads TCP_INFO of a socket.
///
/// # Errors
/// When `sock` is not a TCP socket.
pub fn tcp_info(sock: BorrowedFd<'_>) -> io::Result<TcpInfo> {
    let mut raw = RawTcpInfo::default();
    let mut length = mem::size_of::<RawTcpInfo>() as libc::socklen_t;
    // SAFETY: the pointer is to `raw`, which lives past the call and is `length` bytes long; the kernel writes at most
    // that many, and less if it is older. Every bit pattern is a valid `RawTcpInfo`: it holds integers only.
    let result = unsafe {
        libc::getsockopt(sock.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut raw).cast(), &mut length)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(raw.into())
}

/// The kernel's `struct tcp_info` (linux/tcp.h), which only ever grows at its end.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RawTcpInfo {
    state: u8,
    ca_state: u8,
    retransmits: u8,
    probes: u8,
    backoff: u8,
    options: u8,
    /// Bitfields `snd_wscale : 4, rcv_wscale : 4`.
    wscales: u8,
    /// Bitfields `delivery_rate_app_limited : 1, fastopen_client_fail : 2`.
    flags: u8,
    rto: u32,
    ato: u32,
    snd_mss: u32,
    rcv_mss: u32,
    unacked: u32,
    sacked: u32,
    lost: u32,
    retrans: u32,
    fackets: u32,
    last_data_sent: u32,
    last_ack_sent: u32,
    last_data_recv: u32,
    last_ack_recv: u32,
    pmtu: u32,
    rcv_ssthresh: u32,
    rtt: u32,
    rttvar: u32,
    snd_ssthresh: u32,
    snd_cwnd: u32,
    advmss: u32,
    reordering: u32,
    rcv_rtt: u32,
    rcv_space: u32,
    total_retrans: u32,
    pacing_rate: u64,
    max_pacing_rate: u64,
    bytes_acked: u64,
    bytes_received: u64,
    segs_out: u32,
    segs_in: u32,
    notsent_bytes: u32,
    min_rtt: u32,
    data_segs_in: u32,
    data_segs_out: u32,
    delivery_rate: u64,
    busy_time: u64,
    rwnd_limited: u64,
    sndbuf_limited: u64,
    delivered: u32,
    delivered_ce: u32,
    bytes_sent: u64,
    bytes_retrans: u64,
    dsack_dups: u32,
    reord_seen: u32,
    rcv_ooopack: u32,
    snd_wnd: u32,
}

// The kernel's offsets: a field left out above would shift all that follow.
const _: () = {
    assert!(mem::offset_of!(RawTcpInfo, rto) == 8);
    assert!(mem::offset_of!(RawTcpInfo, pacing_rate) == 104);
    assert!(mem::offset_of!(RawTcpInfo, delivery_rate) == 160);
    assert!(mem::offset_of!(RawTcpInfo, snd_wnd) == 228);
    assert!(mem::size_of::<RawTcpInfo>() == 232);
};

/// The first bitfield of a byte is at its low end on little-endian machines, at its high end on others.
const APP_LIMITED: u8 = if cfg!(target_endian = "little") { 0x01 } else { 0x80 };

impl From<RawTcpInfo> for TcpInfo {
    fn from(raw: RawTcpInfo) -> Self {
        TcpInfo {
            state: raw.state,
            rtt_us: raw.rtt,
            rttvar_us: raw.rttvar,
            // The kernel's minimum begins at the greatest value.
            min_rtt_us: if raw.min_rtt == u32::MAX { 0 } else { raw.min_rtt },
            snd_cwnd_segments: raw.snd_cwnd,
            snd_ssthresh_segments: raw.snd_ssthresh,
            snd_mss_bytes: raw.snd_mss,
            unacked_segments: raw.unacked,
            total_retrans: raw.total_retrans,
            data_segs_out: raw.data_segs_out,
            last_data_sent_ms: raw.last_data_sent,
            last_data_recv_ms: raw.last_data_recv,
            delivery_rate_bytes_per_s: raw.delivery_rate,
            delivery_rate_app_limited: raw.flags & APP_LIMITED != 0,
            pacing_rate_bytes_per_s: raw.pacing_rate,
            busy_time_us: raw.busy_time,
            rwnd_limited_us: raw.rwnd_limited,
            sndbuf_limited_us: raw.sndbuf_limited,
            bytes_acked: raw.bytes_acked,
            bytes_received: raw.bytes_received,
            notsent_bytes: raw.notsent_bytes,
            snd_wnd_bytes: raw.snd_wnd,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    /// A connection over loopback that has carried `bytes` bytes from the first socket to the second.
    fn connection(bytes: usize) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut receiver, _) = listener.accept().unwrap();
        sender.write_all(&vec![7; bytes]).unwrap();
        receiver.read_exact(&mut vec![0; bytes]).unwrap();
        // An answer carries the acknowledgement of all that was sent.
        receiver.write_all(&[1]).unwrap();
        sender.read_exact(&mut [0]).unwrap();
        (sender, receiver)
    }

    #[test]
    fn a_connection_tells_what_it_carried() {
        const ESTABLISHED: u8 = 1;
        let (sender, receiver) = connection(10_000);
        let info = tcp_info(sender.as_fd()).unwrap();
        assert_eq!(info.state, ESTABLISHED);
        // The handshake's SYN counts as one.
        assert!((10_000..=10_001).contains(&info.bytes_acked), "{info:?}");
        assert_eq!(info.bytes_received, 1);
        assert_eq!(info.notsent_bytes, 0);
        assert!(info.snd_cwnd_segments > 0 && info.snd_cwnd_segments < 1 << 20, "{info:?}");
        assert!(info.snd_mss_bytes >= 536 && info.snd_mss_bytes < 1 << 16, "{info:?}");
        assert!(info.rtt_us > 0 && info.rtt_us < 10_000_000, "{info:?}");
        assert!(info.min_rtt_us < 10_000_000, "{info:?}");
        assert!(info.rwnd_limited_us <= info.busy_time_us, "{info:?}");
        assert_eq!(tcp_info(receiver.as_fd()).unwrap().bytes_received, 10_000);
    }

    #[test]
    fn what_is_not_tcp_is_an_error() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(tcp_info(socket.as_fd()).is_err());
    }

    #[test]
    fn no_sample_is_not_the_greatest_round_trip_time() {
        let raw = RawTcpInfo { min_rtt: u32::MAX, flags: APP_LIMITED, ..RawTcpInfo::default() };
        let info = TcpInfo::from(raw);
        assert_eq!(info.min_rtt_us, 0);
        assert!(info.delivery_rate_app_limited);
    }
}
