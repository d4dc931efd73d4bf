//! The bare loop's sender: one lane's system calls in a blocking loop, the file round and round.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};

use anyhow::Context;
use linerate::sys::affinity;
use socket2::{Domain, SockRef, Socket, Type};

use crate::common::own;
use crate::lanes;

/// The first argument of this role.
pub const ROLE: &str = "bare-send";

/// `CPU CHUNK METHOD ADDRESS FILE`: sends until the receiver goes away.
pub fn run(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let mut word = || arguments.next().context("too few arguments");
    let (cpu, chunk): (u32, u64) = (word()?.parse()?, word()?.parse()?);
    let (method, address): (String, SocketAddr) = (word()?, word()?.parse()?);
    let file = File::open(word()?).context("the file to send")?;
    let sock = connect(address)?;
    affinity::pin_this_thread(cpu).context("the bare sender cannot be pinned")?;
    let mut lane = lanes::make(&method, &sock, &file, chunk as usize)?;
    let size = file.metadata()?.len();
    let mut sent = 0;
    loop {
        // As the engine does it: chunks stay aligned, and none crosses the end of the file.
        let at = sent % size;
        let len = (chunk - sent % chunk).min(size - at);
        match lane.send(at, len as usize) {
            Ok(n) => sent += n as u64,
            Err(error) if is_end(&error) => return Ok(()),
            Err(error) => return Err(error).context(method),
        }
    }
}

fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let sock = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    SockRef::from(&sock).set_tcp_congestion(own::CONGESTION.as_bytes()).context(own::CONGESTION)?;
    sock.connect(&address.into()).context("the bare receiver")?;
    Ok(sock.into())
}

/// The receiver has what it wanted and is gone.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}
