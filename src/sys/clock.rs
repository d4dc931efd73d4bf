//! CPU time of this process, as the kernel accounts it. Wall-clock time is `std::time`'s.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// User and system time of this process over all its threads, ns; 0 if the kernel refuses to say.
pub fn process_cpu_ns() -> u64 {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return 0;
    };
    let total = usage.user_time() + usage.system_time();
    u64::try_from(total.num_microseconds()).unwrap_or(0).saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn work_costs_time() {
        let before = process_cpu_ns();
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut work = 0_u64;
        while process_cpu_ns() < before + 1_000_000 {
            work = std::hint::black_box(work.wrapping_add(1));
            assert!(Instant::now() < deadline, "busy for 10 s without CPU time");
        }
    }
}
