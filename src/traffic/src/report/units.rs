//! Figures as people read them: four significant digits with a unit that fits; every digit is in the CSV and JSON.

/// Frames a second.
pub(super) fn fps(fps: f64) -> String {
    scaled(
        fps,
        &[(1e9, "Gpps"), (1e6, "Mpps"), (1e3, "kpps"), (1.0, "pps")],
    )
}

/// Bits a second.
pub(super) fn bits(bits: f64) -> String {
    let units = [
        (1e12, "Tbit/s"),
        (1e9, "Gbit/s"),
        (1e6, "Mbit/s"),
        (1e3, "kbit/s"),
        (1.0, "bit/s"),
    ];
    scaled(bits, &units)
}

/// A time in nanoseconds.
pub(super) fn time(ns: f64) -> String {
    scaled(ns, &[(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")])
}

/// A time in seconds.
pub(super) fn seconds(s: f64) -> String {
    match s {
        _ if !s.is_finite() => "–".to_owned(),
        3600.0.. => format!(
            "{:.0} h {:.0} min",
            (s / 3600.0).floor(),
            (s % 3600.0 / 60.0).floor()
        ),
        120.0.. => format!("{:.0} min {:.0} s", (s / 60.0).floor(), (s % 60.0).floor()),
        _ => time(s * 1e9),
    }
}

/// Bytes of memory.
pub(super) fn memory(bytes: u64) -> String {
    let bytes = bytes as f64;
    let units = [
        (f64::from(1 << 30), "GiB"),
        (f64::from(1 << 20), "MiB"),
        (1024.0, "KiB"),
        (1.0, "B"),
    ];
    scaled(bytes, &units)
}

/// A count, its thousands apart.
pub(super) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}'); // a narrow space that does not break
        }
        text.push(digit);
    }
    text
}

/// A count that may be a mean.
pub(super) fn frames(frames: f64) -> String {
    if frames.is_finite() && frames >= 0.0 {
        match (frames.fract() * 10.0).round() {
            0.0 => count(frames as u64),
            _ => format!(
                "{}.{:.0}",
                count(frames as u64),
                (frames.fract() * 10.0).floor()
            ),
        }
    } else {
        plain(frames)
    }
}

/// A share as per cent, with as many digits as show that it is not 0 or 100.
pub(super) fn percent(share: f64) -> String {
    let value = share * 100.0;
    let rest = value.abs().min((100.0 - value).abs());
    match rest {
        _ if !value.is_finite() => "–".to_owned(),
        0.0 => format!("{value:.0} %"),
        0.1.. => format!("{value:.2} %"),
        0.001.. => format!("{value:.4} %"),
        _ if value < 50.0 => format!("{value:.1e} %"),
        _ => format!("{value:.7} %"),
    }
}

/// A change as per cent, with its sign.
pub(super) fn change(share: f64, digits: usize) -> String {
    let percent = share * 100.0;
    match percent.is_finite() {
        true => format!("{percent:+.digits$} %"),
        false => "–".to_owned(),
    }
}

/// A number without a unit, four significant digits.
pub(super) fn plain(value: f64) -> String {
    if value.is_finite() {
        significant(value)
    } else {
        "–".to_owned()
    }
}

/// A round number beside an axis.
pub(super) fn round(value: f64) -> String {
    let text = plain(value);
    match text.contains('.') && !text.contains('e') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Frame size: whole if all have it, else the mean.
pub(super) fn size(bytes: f64) -> String {
    match bytes.fract() {
        0.0 => format!("{bytes:.0}"),
        _ if bytes.is_finite() => format!("{bytes:.1}"),
        _ => "–".to_owned(),
    }
}

/// What quantiles are called: 0.999 is `99.9 %`.
pub(super) fn quantile(share: f64) -> String {
    let percent = share * 100.0;
    if !percent.is_finite() {
        return "–".to_owned();
    }
    let text = format!("{percent:.6}");
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// As short as it can be said, with a unit of these.
pub(super) fn short(value: f64, all: &[(f64, &str)]) -> String {
    let (factor, unit) = unit_for(value * 1.0005, all);
    format!("{}{unit}", plain(value / factor))
}

/// The unit that suits the largest of several figures: its factor and name.
pub(super) fn unit_for<'a>(greatest: f64, units: &[(f64, &'a str)]) -> (f64, &'a str) {
    let fits = units.iter().find(|(factor, _)| greatest.abs() >= *factor);
    *fits.or(units.last()).expect("there is a unit")
}

fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    // What rounds up to the next unit is said in that.
    let (factor, unit) = unit_for(value * 1.00005, units);
    format!("{}\u{a0}{unit}", significant(value / factor))
}

/// Four digits, so that figures below one another can be compared; whole numbers without a fraction.
fn significant(value: f64) -> String {
    match value.abs() {
        1000.0.. => format!("{value:.0}"),
        whole if whole.fract() == 0.0 => format!("{value:.0}"),
        100.0.. => format!("{value:.1}"),
        10.0.. => format!("{value:.2}"),
        0.01.. => format!("{value:.3}"),
        _ => format!("{value:.2e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn figures_as_people_write_them() {
        assert_eq!(fps(14_880_952.38), "14.88\u{a0}Mpps");
        assert_eq!(fps(999_999.9), "1.000\u{a0}Mpps");
        assert_eq!(fps(0.0), "0\u{a0}pps");
        assert_eq!(bits(10e9), "10\u{a0}Gbit/s");
        assert_eq!(time(12_345.0), "12.35\u{a0}µs");
        assert_eq!(time(f64::NAN), "–");
        assert_eq!(seconds(5025.0), "1 h 23 min");
        assert_eq!(memory(24 << 30), "24\u{a0}GiB");
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(count(12), "12");
        assert_eq!(frames(1023.5), "1\u{202f}023.5");
        assert_eq!(frames(1023.0), "1\u{202f}023");
        assert_eq!(quantile(0.9999), "99.99 %");
    }

    #[test]
    fn little_loss_does_not_look_like_none() {
        assert_eq!(percent(0.0), "0 %");
        assert_eq!(percent(1.0), "100 %");
        assert_eq!(percent(0.5), "50.00 %");
        assert_eq!(percent(1e-9), "1.0e-7 %");
        assert_eq!(percent(0.999_999), "99.9999000 %");
        assert_eq!(percent(f64::NAN), "–");
    }

    proptest! {
        #[test]
        fn what_is_shown_is_the_figure(value in 1.0..1e15f64) {
            let text = fps(value);
            let (number, unit) = text.split_once('\u{a0}').unwrap();
            let factor = match unit { "Gpps" => 1e9, "Mpps" => 1e6, "kpps" => 1e3, _ => 1.0 };
            let shown = number.parse::<f64>().unwrap() * factor;
            prop_assert!((shown / value - 1.0).abs() < 0.0006, "{value} {text}");
        }

        #[test]
        fn no_figure_is_too_odd(value: f64) {
            for text in [fps(value), bits(value), time(value), percent(value), plain(value), frames(value), quantile(value), size(value), change(value, 2), seconds(value)] {
                prop_assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
            }
        }
    }
}
