//! Numbers for tables: rounded to what a person compares, not meant to be read back.

/// A rate for a table, in Gbit/s with three significant figures and without the unit: `57.9`, `0.123`, `101`.
pub fn gbit_per_s(bytes_per_s: f64) -> String {
    three_figures(bytes_per_s * 8.0 / 1e9)
}

/// A span of time for a table, with three significant figures: `61.2 µs`, `1.30 ms`.
pub fn duration_ns(ns: u64) -> String {
    if ns < 1000 {
        return format!("{ns} ns");
    }
    for (unit_ns, unit) in [(1e3, "µs"), (1e6, "ms")] {
        let value = ns as f64 / unit_ns;
        // What would round up to 1000 belongs to the next unit.
        if value < 999.5 {
            return format!("{} {unit}", three_figures(value));
        }
    }
    format!("{} s", three_figures(ns as f64 / 1e9))
}

fn three_figures(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    // The exponent after rounding: 99.96 is shown as 100, not as 100.0.
    let scientific = format!("{value:.2e}");
    let exponent = scientific.split_once('e').and_then(|(_, exponent)| exponent.parse::<i32>().ok());
    let decimals = (2 - exponent.unwrap_or(0)).clamp(0, 9) as usize;
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_show_three_figures() {
        let table = [
            (57.94, "57.9"),
            (0.1234, "0.123"),
            (101.4, "101"),
            (99.96, "100"),
            (1.0, "1.00"),
            (0.00012345, "0.000123"),
            (1234.0, "1234"),
            (0.0, "0"),
        ];
        for (gbit, text) in table {
            assert_eq!(gbit_per_s(gbit * 1e9 / 8.0), text);
        }
        let table = [
            (0, "0 ns"),
            (999, "999 ns"),
            (61_200, "61.2 µs"),
            (999_499, "999 µs"),
            (999_500, "1.00 ms"),
            (1_300_000, "1.30 ms"),
            (999_900_000, "1.00 s"),
            (60_000_000_000, "60.0 s"),
        ];
        for (ns, text) in table {
            assert_eq!(duration_ns(ns), text);
        }
    }
}
