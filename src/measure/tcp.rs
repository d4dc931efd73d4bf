//! TCP_INFO over the streams of one measurement: sums of what counts, medians of what describes.

use std::time::Duration;

use crate::proto::facts::TcpSummary;
use crate::sys::tcp_info::TcpInfo;

/// Sums up what the kernel knew about the sending sockets, each with its age when it was read.
///
/// A median over an even number of streams is the mean of the middle two, rounded down. All is zero for no stream.
pub fn summarise(infos: &[(TcpInfo, Duration)], congestion: String) -> TcpSummary {
    let sum = |field: fn(&TcpInfo) -> u64| infos.iter().fold(0_u64, |sum, (info, _)| sum.saturating_add(field(info)));
    let median = |field: fn(&TcpInfo) -> u32| median(infos.iter().map(|(info, _)| field(info)).collect());
    // 0 is no sample, not a round trip in no time.
    let min_rtt_us = infos.iter().map(|(info, _)| info.min_rtt_us).filter(|&rtt_us| rtt_us > 0).min();
    let age: Duration = infos.iter().fold(Duration::ZERO, |sum, (_, age)| sum.saturating_add(*age));
    TcpSummary {
        streams: u32::try_from(infos.len()).unwrap_or(u32::MAX),
        rtt_us: median(|info| info.rtt_us),
        min_rtt_us: min_rtt_us.unwrap_or(0),
        cwnd_segments: median(|info| info.snd_cwnd_segments),
        mss_bytes: median(|info| info.snd_mss_bytes),
        retransmits: sum(|info| u64::from(info.total_retrans)),
        delivery_rate_bytes_per_s: sum(|info| info.delivery_rate_bytes_per_s),
        busy_us: sum(|info| info.busy_time_us),
        rwnd_limited_us: sum(|info| info.rwnd_limited_us),
        sndbuf_limited_us: sum(|info| info.sndbuf_limited_us),
        age_us: u64::try_from(age.as_micros()).unwrap_or(u64::MAX),
        congestion_control: congestion,
    }
}

fn median(mut values: Vec<u32>) -> u32 {
    values.sort_unstable();
    let upper = values.get(values.len() / 2).copied().unwrap_or(0);
    let lower = values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0);
    lower.midpoint(upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(rtt_us: u32, min_rtt_us: u32) -> (TcpInfo, Duration) {
        let info = TcpInfo {
            rtt_us,
            min_rtt_us,
            snd_cwnd_segments: 10,
            snd_mss_bytes: 1448,
            total_retrans: 3,
            delivery_rate_bytes_per_s: 1000,
            busy_time_us: 500,
            rwnd_limited_us: 20,
            sndbuf_limited_us: 30,
            ..TcpInfo::default()
        };
        (info, Duration::from_millis(2))
    }

    #[test]
    fn counters_are_summed_and_the_rest_is_a_median() {
        let summary = summarise(&[stream(300, 90), stream(100, 0), stream(200, 80)], "cubic".to_owned());
        let expected = TcpSummary {
            streams: 3,
            rtt_us: 200,
            min_rtt_us: 80,
            cwnd_segments: 10,
            mss_bytes: 1448,
            retransmits: 9,
            delivery_rate_bytes_per_s: 3000,
            busy_us: 1500,
            rwnd_limited_us: 60,
            sndbuf_limited_us: 90,
            age_us: 6000,
            congestion_control: "cubic".to_owned(),
        };
        assert_eq!(summary, expected);
    }

    #[test]
    fn no_stream_is_zero() {
        assert_eq!(summarise(&[], String::new()), TcpSummary::default());
    }

    #[test]
    fn a_median_is_in_the_middle() {
        let table: [(&[u32], u32); 5] =
            [(&[], 0), (&[7], 7), (&[9, 1], 5), (&[3, 1, 2], 2), (&[u32::MAX; 4], u32::MAX)];
        for (values, expected) in table {
            assert_eq!(median(values.to_vec()), expected, "{values:?}");
        }
    }
}
