//! Figures as people read them.

/// `29.4 GiB`: three figures at most, in units of 1024.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = bytes.saturating_mul(10) / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    let figure = if tenths >= 1000 || tenths.is_multiple_of(10) {
        format!("{}", tenths / 10)
    } else {
        format!("{}.{}", tenths / 10, tenths % 10)
    };
    format!("{figure} {}", UNITS[unit])
}

/// `3 days 4 h`: the two largest parts.
pub(crate) fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => "less than a minute".to_owned(),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {} min", minutes % 60),
        (1, hours, _) => format!("1 day {} h", hours % 24),
        (days, hours, _) => format!("{days} days {} h", hours % 24),
    }
}

/// `10 Gbit/s`
pub(crate) fn speed(mbit: u32) -> String {
    if mbit >= 1000 && mbit.is_multiple_of(100) {
        let (whole, tenth) = (mbit / 1000, mbit % 1000 / 100);
        if tenth == 0 { format!("{whole} Gbit/s") } else { format!("{whole}.{tenth} Gbit/s") }
    } else {
        format!("{mbit} Mbit/s")
    }
}

/// `16 threads`, without the figure.
pub(crate) fn threads(count: u32) -> &'static str {
    if count == 1 { "thread" } else { "threads" }
}

/// `8 cores in 2 sockets`
pub(crate) fn cores(cores: u32, sockets: u32) -> String {
    let several = |count: u32, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    format!("{} in {}", several(cores, "core"), several(sockets, "socket"))
}

/// How much of a whole, in percent, rounded down so that only what is full is shown as full.
pub(crate) fn percent(part: u64, whole: u64) -> u64 {
    (u128::from(part) * 100)
        .checked_div(u128::from(whole))
        .and_then(|percent| u64::try_from(percent).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_have_three_figures_at_most() {
        let cases = [0, 1023, 1024, 1536, 24 << 30, 31_568_429_056, 1_099_511_627_776].map(bytes);
        assert_eq!(cases, ["0 B", "1023 B", "1 KiB", "1.5 KiB", "24 GiB", "29.4 GiB", "1 TiB"]);
    }

    #[test]
    fn durations_have_two_parts() {
        let cases = [0, 59, 60, 3_660, 90_000, 273_600].map(duration);
        assert_eq!(
            cases,
            ["less than a minute", "less than a minute", "1 min", "1 h 1 min", "1 day 1 h", "3 days 4 h"]
        );
    }

    #[test]
    fn speeds_are_in_the_unit_people_use() {
        assert_eq!(
            [100, 1000, 2500, 25_000].map(speed),
            ["100 Mbit/s", "1 Gbit/s", "2.5 Gbit/s", "25 Gbit/s"]
        );
    }

    proptest! {
        #[test]
        fn any_number_has_words(number: u64, other: u64) {
            bytes(number);
            duration(number);
            prop_assert!(percent(number.min(other), other) <= 100);
        }
    }
}
