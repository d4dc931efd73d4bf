//! MSG_ZEROCOPY: sending without a copy, and the completions on the socket's error queue.
//!
//! Every successful send with MSG_ZEROCOPY gets the next number, from 0. A completion names a range of numbers
//! whose pages the kernel no longer needs, and says whether it had to copy them after all (as it always does on
//! loopback). Source: Documentation/networking/msg_zerocopy.rst.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::raw::result;

const CONTROL_BYTES: usize = 128;
/// `SO_EE_ORIGIN_ZEROCOPY` of linux/errqueue.h.
const ORIGIN_ZEROCOPY: u8 = 5;
/// `SO_EE_CODE_ZEROCOPY_COPIED` of linux/errqueue.h.
const CODE_COPIED: u8 = 1;

/// The kernel let go of these sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// First number, counting up and wrapping.
    pub first: u32,
    /// Last number.
    pub last: u32,
    /// Whether the bytes were copied after all.
    pub copied: bool,
}

impl Completion {
    /// How many sends it covers.
    pub fn count(&self) -> u32 {
        self.last.wrapping_sub(self.first).wrapping_add(1)
    }
}

/// Take one completion off the error queue; `None` when it is empty.
pub fn next_completion(sock: BorrowedFd<'_>) -> io::Result<Option<Completion>> {
    let mut control = [0u64; CONTROL_BYTES / 8];
    // SAFETY: an all-zero msghdr is a valid empty one (null pointers with zero lengths).
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = CONTROL_BYTES as _;
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: `message` points at `control`, which lives through the call, with its true length, and at nothing else.
    match result(unsafe { libc::syscall(libc::SYS_recvmsg, sock.as_raw_fd(), &raw mut message, flags) }) {
        Ok(_) => parse(&message).map(Some),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// The completion in a message from the error queue. Anything else there is the socket's failure.
fn parse(message: &libc::msghdr) -> io::Result<Completion> {
    // SAFETY: `message` was filled by recvmsg and still points at its live control buffer.
    let header = unsafe { libc::CMSG_FIRSTHDR(message) };
    if header.is_null() {
        return Err(io::Error::other("a message without a cause on the error queue"));
    }
    // SAFETY: CMSG_FIRSTHDR gave a header inside the control buffer; recvmsg wrote `cmsg_len` bytes there, which for
    // IP_RECVERR and IPV6_RECVERR begin with a sock_extended_err. The buffer is aligned to 8.
    let (kind, error) = unsafe {
        let kind = ((*header).cmsg_level, (*header).cmsg_type);
        (kind, libc::CMSG_DATA(header).cast::<libc::sock_extended_err>().read_unaligned())
    };
    let expected = [(libc::SOL_IP, libc::IP_RECVERR), (libc::SOL_IPV6, libc::IPV6_RECVERR)];
    if !expected.contains(&kind) || error.ee_origin != ORIGIN_ZEROCOPY {
        return Err(io::Error::from_raw_os_error(error.ee_errno as i32));
    }
    let copied = error.ee_code & CODE_COPIED != 0;
    Ok(Completion { first: error.ee_info, last: error.ee_data, copied })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn completions_name_the_sends_that_ended() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        super::super::socket::set_zerocopy(near.as_fd()).unwrap();
        assert_eq!(next_completion(near.as_fd()).unwrap(), None);
        let bytes = vec![3; 16 * 1024];
        let sent = super::super::socket::send_flags(near.as_fd(), &bytes, libc::MSG_ZEROCOPY);
        assert_eq!(sent.unwrap(), bytes.len());
        let mut got = vec![0; bytes.len()];
        io::Read::read_exact(&mut far, &mut got).unwrap();
        assert_eq!(got, bytes);
        let completion = loop {
            if let Some(completion) = next_completion(near.as_fd()).unwrap() {
                break completion;
            }
            std::thread::yield_now();
        };
        assert_eq!((completion.first, completion.last, completion.count()), (0, 0, 1));
        assert!(completion.copied, "loopback always copies");
    }

    #[test]
    fn counts_wrap() {
        assert_eq!(Completion { first: u32::MAX, last: 1, copied: false }.count(), 3);
    }
}
