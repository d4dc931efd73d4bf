//! Sending, receiving and socket options that std, mio and socket2 do not offer.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::raw;

/// Send without ever blocking or raising SIGPIPE; `more` says that more follows at once (MSG_MORE).
pub fn send(sock: BorrowedFd<'_>, bytes: &[u8], more: bool) -> io::Result<usize> {
    send_flags(sock, bytes, if more { libc::MSG_MORE } else { 0 })
}

/// Send with further flags. With MSG_ZEROCOPY the caller leaves the memory as it is until the completion: a change
/// would show on the wire.
pub fn send_flags(sock: BorrowedFd<'_>, bytes: &[u8], flags: i32) -> io::Result<usize> {
    let flags = flags | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the pointer and length are those of a live slice, which the kernel only reads. With MSG_ZEROCOPY it
    // holds references to the pages afterwards, not to our addresses, so freeing or reusing them is no memory error.
    unsafe { raw::send(sock, bytes.as_ptr(), bytes.len(), flags) }
}

/// Receive without ever blocking; 0 when the stream ended.
pub fn receive(sock: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and length are those of a live slice that nobody else can see while we hold it mutably.
    unsafe { raw::receive(sock, buffer.as_mut_ptr(), buffer.len(), libc::MSG_DONTWAIT) }
}

/// Take up to `len` bytes off a TCP socket without looking at them (MSG_TRUNC); 0 when the stream ended.
pub fn discard(sock: BorrowedFd<'_>, len: usize) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    // SAFETY: with MSG_TRUNC on TCP the kernel drops the bytes and never writes through the pointer (tcp(7)).
    unsafe { raw::receive(sock, std::ptr::null_mut(), len, flags) }
}

/// Set SO_MAX_PACING_RATE, bytes per second.
pub fn set_max_pacing_rate(sock: BorrowedFd<'_>, bytes_per_s: u64) -> io::Result<()> {
    set_option(sock, libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE, bytes_per_s)
}

/// Set TCP_CORK: while it is on, only full segments leave; taking it off sends what is left.
pub fn set_cork(sock: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    set_option(sock, libc::IPPROTO_TCP, libc::TCP_CORK, libc::c_int::from(on))
}

/// Set SO_RCVLOWAT: the socket counts as readable once so many bytes wait, or nothing more can come.
pub fn set_receive_low_water(sock: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    set_option(sock, libc::SOL_SOCKET, libc::SO_RCVLOWAT, bytes as libc::c_int)
}

/// Set SO_ZEROCOPY, without which MSG_ZEROCOPY is ignored.
pub fn set_zerocopy(sock: BorrowedFd<'_>) -> io::Result<()> {
    set_option(sock, libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1 as libc::c_int)
}

fn set_option<T: Copy>(sock: BorrowedFd<'_>, level: i32, name: i32, value: T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` lives through the call and `length` is its size; T is a plain integer here.
    let got = unsafe { libc::setsockopt(sock.as_raw_fd(), level, name, (&raw const value).cast(), length) };
    if got == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn discarding_takes_bytes_off_without_a_buffer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        let empty = discard(far.as_fd(), 10).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        near.write_all(b"0123456789").unwrap();
        let mut peeked = [0; 1];
        far.peek(&mut peeked).unwrap();
        assert_eq!(discard(far.as_fd(), 7).unwrap(), 7);
        let mut rest = [0; 16];
        assert_eq!(receive(far.as_fd(), &mut rest).unwrap(), 3);
        assert_eq!(&rest[..3], b"789");
        drop(near);
        far.peek(&mut peeked).unwrap();
        assert_eq!(discard(far.as_fd(), 7).unwrap(), 0);
    }

    #[test]
    fn options_are_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        set_max_pacing_rate(listener.as_fd(), 10_000_000_000).unwrap();
        set_zerocopy(listener.as_fd()).unwrap();
    }
}
