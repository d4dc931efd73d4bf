//! CPU time of the process and of the machine, at one moment and between two.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use crate::proto::facts::CpuClock;
use crate::sys::clock::process_cpu_ns;

/// CPU time so far. What cannot be read is zero, so [`busy_share`] has nothing to say about it.
pub fn now() -> CpuClock {
    let (machine_busy_ticks, machine_all_ticks) = machine_line().as_deref().and_then(parse_machine).unwrap_or_default();
    CpuClock { process_ns: process_cpu_ns(), machine_busy_ticks, machine_all_ticks }
}

/// The share of the machine's CPU time that was busy between two moments, from 0 to 1.
///
/// Nothing when it could not be read, or when no tick passed between them.
pub fn busy_share(before: &CpuClock, after: &CpuClock) -> Option<f64> {
    let busy = after.machine_busy_ticks.checked_sub(before.machine_busy_ticks)?;
    let all = after.machine_all_ticks.checked_sub(before.machine_all_ticks)?;
    // The kernel lets I/O wait run backwards, so the whole can grow by less than its part.
    (all > 0).then(|| (busy as f64 / all as f64).min(1.0))
}

/// Longest first line of /proc/stat that is read, bytes: twelve numbers.
const LINE_BYTES_MAX: u64 = 512;

/// The first line of /proc/stat: all CPUs together.
fn machine_line() -> Option<String> {
    let mut line = String::new();
    let file = File::open("/proc/stat").ok()?.take(LINE_BYTES_MAX);
    BufReader::with_capacity(LINE_BYTES_MAX as usize, file).read_line(&mut line).ok()?;
    Some(line)
}

/// Busy and all ticks of `cpu  user nice system idle iowait irq softirq steal guest guest_nice`.
fn parse_machine(line: &str) -> Option<(u64, u64)> {
    let mut fields = line.split_ascii_whitespace();
    if fields.next() != Some("cpu") {
        return None;
    }
    // Guests are counted in user and nice already.
    let mut ticks = [0_u64; 8];
    for (index, tick) in ticks.iter_mut().enumerate() {
        match fields.next() {
            Some(field) => *tick = field.parse().ok()?,
            // Kernels before 2.6.11 have no steal; without an idle time there is no share.
            None if index > 3 => break,
            None => return None,
        }
    }
    let [user, nice, system, idle, iowait, irq, softirq, steal] = ticks;
    let sum = |ticks: &[u64]| ticks.iter().try_fold(0_u64, |sum, &tick| sum.checked_add(tick));
    let busy = sum(&[user, nice, system, irq, softirq, steal])?;
    Some((busy, sum(&[busy, idle, iowait])?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_the_line_of_all_cpus() {
        let line = "cpu  13888 1 8774 141453 312 2 1560 19 5 6\n";
        assert_eq!(
            parse_machine(line),
            Some((13888 + 1 + 8774 + 2 + 1560 + 19, 13888 + 1 + 8774 + 141_453 + 312 + 2 + 1560 + 19))
        );
        assert_eq!(parse_machine("cpu 1 2 3 4"), Some((6, 10)));
        for line in ["", "cpu", "cpu 1 2 3", "cpu0 1 2 3 4", "cpu 1 2 3 x", "cpu 18446744073709551615 1 1 1"] {
            assert_eq!(parse_machine(line), None, "{line}");
        }
    }

    #[test]
    fn a_share_needs_two_moments() {
        let at =
            |machine_busy_ticks, machine_all_ticks| CpuClock { process_ns: 0, machine_busy_ticks, machine_all_ticks };
        assert_eq!(busy_share(&at(10, 100), &at(60, 200)), Some(0.5));
        assert_eq!(busy_share(&at(10, 100), &at(10, 100)), None);
        assert_eq!(busy_share(&at(0, 0), &at(0, 0)), None);
        // Unreadable at the second moment, and I/O wait that ran backwards.
        assert_eq!(busy_share(&at(10, 100), &at(0, 0)), None);
        assert_eq!(busy_share(&at(10, 100), &at(20, 105)), Some(1.0));
    }

    #[test]
    fn this_machine_has_a_clock() {
        let before = now();
        let after = now();
        assert!(after.process_ns >= before.process_ns);
        assert!(after.machine_all_ticks >= after.machine_busy_ticks);
    }

    proptest! {
        #[test]
        fn no_line_can_make_it_panic(text: String, numbers in "cpu( [0-9]{1,20}){0,11}") {
            let _ = (parse_machine(&text), parse_machine(&numbers));
        }
    }
}
