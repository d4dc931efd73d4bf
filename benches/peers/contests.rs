//! Who meets whom at what, and the targets that the project has set itself.

pub use crate::common::target::Target;
use crate::iperf::Iperf;
use crate::nginx::Nginx;
use crate::nuttcp::Nuttcp;
use crate::openssl::Openssl;
use crate::options::{Only, Options};
use crate::peer::{Kind, Peer, Workload};
use crate::qperf::Qperf;
use crate::sockperf::Sockperf;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Send methods of which the best single-stream cell is taken.
pub const CANDIDATES: [&str; 3] = ["write", "mmap", "sendfile"];

/// linerate's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ours {
    /// The best of [`CANDIDATES`] at 1 MiB.
    Best,
    /// This method.
    Method(&'static str),
    /// Request and response: there are no methods.
    Exchange,
}

/// linerate against one rival at one workload.
pub struct Contest {
    /// Our side.
    pub ours: Ours,
    /// Our workload.
    pub our_workload: Workload,
    /// The other side.
    pub rival: Box<dyn Peer>,
    /// Its workload: the same, in its own terms.
    pub rival_workload: Workload,
    /// For bytes per second, or the round-trip time.
    pub target: Option<Target>,
    /// For CPU seconds per 10 GB.
    pub cpu_target: Option<Target>,
}

/// All of them, as far as they were asked for.
pub fn all(options: &Options) -> anyhow::Result<Vec<Contest>> {
    let mut contests = Vec::new();
    if options.wants(Only::Throughput) {
        contests.extend(streams(options)?);
    }
    if options.wants(Only::Tls) {
        contests.extend(secure_streams(options)?);
    }
    if options.wants(Only::Latency) {
        contests.extend(exchanges(options)?);
    }
    Ok(contests)
}

fn streams(options: &Options) -> anyhow::Result<Vec<Contest>> {
    let cpus = if options.pinned { Some(two_cpus()?) } else { None };
    let (plain, zero_copy) = (Kind::Stream, Kind::ZeroCopyStream);
    let (faster, cheaper) = (Some(Target::AtLeast(1.05)), Some(Target::AtMost(1.0)));
    let row = |rival: Box<dyn Peer>, kind, size: Option<u64>, ours, target, cpu_target| {
        let workload = |kind, size_bytes, millis| Workload { kind, size_bytes, millis, cpus };
        let our_size = size.or(Some(crate::peer::DEFAULT_BYTES));
        let our_workload = workload(plain, our_size, options.own_millis);
        let rival_workload = workload(kind, size, u64::from(options.seconds) * 1000);
        Contest { ours, our_workload, rival, rival_workload, target, cpu_target }
    };
    let (iperf, riperf) = (|| Box::new(Iperf::original()), || Box::new(Iperf::in_rust()));
    let small = Some(Target::AtLeast(2.5));
    Ok(vec![
        row(iperf(), zero_copy, Some(MIB), Ours::Best, faster, cheaper),
        row(riperf(), zero_copy, Some(MIB), Ours::Best, faster, None),
        row(iperf(), plain, Some(MIB), Ours::Best, None, cheaper),
        row(riperf(), plain, Some(MIB), Ours::Best, None, None),
        row(Box::new(Nuttcp), plain, Some(MIB), Ours::Best, None, None),
        row(iperf(), plain, None, Ours::Best, None, cheaper),
        row(iperf(), plain, Some(KIB), Ours::Method("write"), small, cheaper),
    ])
}

/// In TLS 1.3 with AES-128-GCM on both sides.
fn secure_streams(options: &Options) -> anyhow::Result<[Contest; 2]> {
    let cpus = if options.pinned { Some(two_cpus()?) } else { None };
    let workload = |size_bytes, millis| Workload { kind: Kind::SecureStream, size_bytes, millis, cpus };
    let contest = |rival: Box<dyn Peer>, bound| Contest {
        ours: Ours::Method("write"),
        our_workload: workload(Some(MIB), options.own_millis),
        rival,
        rival_workload: workload(None, u64::from(options.seconds) * 1000),
        target: Some(Target::AtLeast(bound)),
        cpu_target: None,
    };
    Ok([contest(Box::new(Nginx::new(options.file_bytes)?), 1.5), contest(Box::new(Openssl), 0.5)])
}

/// Sleeping ends are left to the scheduler, as the rival leaves them; spinning ones would otherwise share a CPU now
/// and then and measure its time slices.
fn exchanges(options: &Options) -> anyhow::Result<Vec<Contest>> {
    let cpus = Some(two_cpus()?);
    let contest = |rival: Box<dyn Peer>, kind, size, cpus, bound| {
        let workload = |millis| Workload { kind, size_bytes: Some(size), millis, cpus };
        Contest {
            ours: Ours::Exchange,
            our_workload: workload(options.own_millis),
            rival,
            rival_workload: workload(u64::from(options.seconds) * 1000),
            target: Some(Target::AtMost(bound)),
            cpu_target: None,
        }
    };
    let sizes = [KIB, 64 * KIB];
    let sleeping = sizes.map(|size| contest(Box::new(Qperf), Kind::Sleeping, size, None, 1.0));
    let spinning = sizes.map(|size| contest(Box::new(Sockperf), Kind::Spinning, size, cpus, 1.1));
    Ok(sleeping.into_iter().chain(spinning).collect())
}

/// The first two CPUs that we may use; the only one twice where there is no other.
fn two_cpus() -> anyhow::Result<(u32, u32)> {
    let allowed = linerate::sys::affinity::allowed_cpus();
    let first = *allowed.first().ok_or_else(|| anyhow::anyhow!("the CPUs of this process cannot be read"))?;
    Ok((first, allowed.get(1).copied().unwrap_or(first)))
}
