//! What stands as text in YAML is read by the rules that the API server has for it, and exactly.

use proptest::prelude::*;
use proptest::string::string_regex;

use super::*;

fn matching(pattern: &str) -> impl Strategy<Value = String> {
    string_regex(pattern.trim_start_matches('^').trim_end_matches('$')).expect("a pattern")
}

fn read(text: &str) -> Option<u64> {
    Quantity::from(text).parse().ok()
}

#[test]
fn quantities_are_computed_exactly_and_rounded_up() {
    let table = [
        ("16.1k", 16_100),
        ("4.03k", 4030),
        ("32.7k", 32_700),
        ("8.13M", 8_130_000),
        ("1.1Ki", 1127),
        ("0.1", 1),
        ("0.0001k", 1),
        ("0.5Gi", 1 << 29),
        ("00024Gi", 24 << 30),
        ("0.0Gi", 0),
        ("9007199254740993", 9_007_199_254_740_993),
        ("8191Pi", 8191 << 50),
        ("9223372036854775807", i64::MAX as u64),
        ("9223.372036854775807P", i64::MAX as u64),
        ("0.3333333333333333333333333Gi", 357_913_942),
        ("0.000000000000000000001Pi", 1),
        ("1.0000000000000000000000000", 1),
    ];
    for (text, value) in table {
        assert_eq!(read(text), Some(value), "{text}");
    }
}

#[test]
fn what_the_api_server_takes_for_no_quantity_is_none_here() {
    let table = [
        "+1",
        "-1",
        "1.",
        "1.Gi",
        ".5Gi",
        ".",
        "1e3",
        "1 Gi",
        " 1Gi",
        "1Gi ",
        "1gi",
        "1K",
        "1kI",
        "1E",
        "1m",
        "1Ei",
        "0x10",
        "1_000",
        "\u{ff11}Gi",
        "1.5.2Gi",
        "1,5Gi",
        "1GiB",
        "1Gi2",
        "\u{0661}",
        "8192Pi",
        "9223372036854775808",
        "18446744073709551616",
        "99999999999999999999999999999999",
    ];
    for text in table {
        let error = Quantity::from(text).parse().expect_err(text).to_string();
        assert!(error.starts_with(&format!("{text:?} is not a quantity: write ")), "{error}");
    }
}

#[test]
fn percentages_and_decimals_are_those_of_the_api_server() {
    let percent = |text: &str| Percent::from(text).parse().ok();
    for (text, value) in [("1%", 1), ("060%", 60), ("100%", 100), ("001%", 1)] {
        assert_eq!(percent(text), Some(value), "{text}");
    }
    for text in ["+60%", "-1%", "60", "60%%", "0060%", "60.0%", " 60%", "000%", "101%", "%", ""] {
        assert_eq!(percent(text), None, "{text:?}");
    }
    let decimal = |text: &str| Decimal::from(text).parse().ok();
    for (text, value) in [
        ("+1", 1.0),
        ("-0.5", -0.5),
        ("00.50", 0.5),
        ("1E+5", 1e5),
        ("1e5", 1e5),
        ("1e-400", 0.0),
        ("1e308", 1e308),
    ] {
        assert_eq!(decimal(text), Some(value), "{text}");
    }
    for text in [
        "1.e5", "+.5", "-.5", ".5e1", "1.", "1e", "1e+", "e5", "1e5.0", "1e5e5", "++1", "+-1", "+",
        "0x1p3", "1_000", "1e309", "-1e309", "1 ", " 1", "infinity", "\u{0661}", "",
    ] {
        assert_eq!(decimal(text), None, "{text:?}");
    }
}

#[test]
fn memory_and_links_have_a_least_below_which_a_unit_lacks() {
    let bytes = |text: &str| Quantity::from(text).bytes().map_err(|error| error.to_string());
    assert_eq!(bytes("0"), Ok(0), "nothing is taken");
    assert_eq!((bytes("1Mi"), bytes("1048576")), (Ok(1 << 20), Ok(1 << 20)));
    for (text, advice) in [
        ("24", "24 is 24 bytes: write `24Gi`"),
        ("80000", "80000 is 80000 bytes: write `80000Mi`"),
        ("1023Ki", "1023Ki is 1047552 bytes: write it with its unit, such as `24Gi`"),
        ("0.5", "0.5 is 1 bytes: write `0.5Gi`"),
    ] {
        assert_eq!(bytes(text), Err(advice.to_owned()));
    }
    let bits = |text: &str| Quantity::from(text).bits().map_err(|error| error.to_string());
    assert_eq!((bits("1k"), bits("1000")), (Ok(1000), Ok(1000)));
    for (text, advice) in [
        ("999", "999 is 999 bits a second: write `999M`"),
        ("0", "0 is 0 bits a second: write it with its unit, such as `110M`"),
        ("0.9k", "0.9k is 900 bits a second: write it with its unit, such as `110M`"),
    ] {
        assert_eq!(bits(text), Err(advice.to_owned()));
    }
}

#[test]
fn a_length_of_time_ends_at_a_thousand_years() {
    let read = |text: &str| DurationText::from(text).parse().ok();
    let most = Duration::from_secs(1000 * 366 * 86_400);
    assert_eq!(read("8784000h"), Some(most));
    assert_eq!(read("8783999h59m59s1000ms"), Some(most));
    for text in ["8784000h1ms", "8784001h", "18446744073709551615h", "18446744073709551616ms"] {
        assert_eq!(read(text), None, "{text}");
    }
    for text in ["1.5h", "-1s", "+1s", "1H", "1sec", "1\u{b5}s", "h", "1h ", "1h1", "1m\u{301}s"] {
        assert_eq!(read(text), None, "{text:?}");
    }
}

proptest! {
    #[test]
    fn what_a_pattern_takes_is_read_unless_it_is_out_of_range(
        quantity in matching(Quantity::PATTERN), duration in matching(DurationText::PATTERN),
        percent in matching(Percent::PATTERN), decimal in matching(Decimal::PATTERN),
    ) {
        let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).count();
        let short = digits(&quantity) <= 3;
        prop_assert!(!short || Quantity(quantity.clone()).parse().is_ok(), "{}", quantity);
        let long = duration.split(|c: char| !c.is_ascii_digit()).any(|part| part.len() > 4);
        prop_assert!(long || DurationText(duration.clone()).parse().is_ok(), "{}", duration);
        let number: u32 = percent.trim_end_matches('%').parse().expect("digits");
        let taken = Percent(percent).parse().ok().map(u32::from);
        prop_assert_eq!(taken, (1..=100).contains(&number).then_some(number));
        let value: f64 = decimal.parse().expect("Rust reads all of them");
        prop_assert_eq!(Decimal(decimal).parse().ok(), value.is_finite().then_some(value));
    }

    #[test]
    fn a_whole_number_of_thousandths_is_that_number(units in 0_u64..4_000_000_000) {
        let (thousands, rest) = (units / 1000, units % 1000);
        prop_assert_eq!(read(&format!("{thousands}.{rest:03}k")), Some(units));
        let (millions, rest) = (units / 1_000_000, units % 1_000_000);
        prop_assert_eq!(read(&format!("{millions}.{rest:06}M")), Some(units));
        prop_assert_eq!(read(&format!("{units}.000")), Some(units));
        prop_assert_eq!(read(&format!("{units}Mi")), Some(units << 20));
    }

    #[test]
    fn what_is_written_of_a_number_is_read_back(units in 0_u64..=i64::MAX as u64, shift in 0..63) {
        for units in [units, units >> shift, (units >> shift) << shift] {
            prop_assert_eq!(Quantity::from(units).parse(), Ok(units));
        }
    }

    #[test]
    fn parts_of_a_time_add_up_in_whatever_order_they_stand(
        parts in proptest::collection::vec((0_u64..1000, 0..4_usize), 1..6),
    ) {
        let units = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
        let text: String =
            parts.iter().map(|(number, unit)| format!("{number}{}", units[*unit].0)).collect();
        let millis = parts.iter().map(|(number, unit)| number * units[*unit].1).sum();
        prop_assert_eq!(DurationText(text).parse(), Ok(Duration::from_millis(millis)));
    }

    /// What a sentence says to write is right itself.
    #[test]
    fn no_text_panics_and_the_advice_for_it_is_followed(text in "[0-9.+eEkKMGi%hms, _-]{0,10}") {
        let advised = |error: TextError| {
            let said = error.to_string();
            let what = said.rsplit_once("write `")?.1.trim_end_matches('`').to_owned();
            Some(what.trim_matches('"').to_owned())
        };
        if let Some(what) = Quantity(text.clone()).parse().err().and_then(advised) {
            prop_assert!(Quantity(what.clone()).parse().is_ok(), "{} for {}", what, text);
        }
        if let Some(what) = DurationText(text.clone()).parse().err().and_then(advised) {
            prop_assert!(DurationText(what.clone()).parse().is_ok(), "{} for {}", what, text);
        }
        if let Some(what) = Percent(text.clone()).parse().err().and_then(advised) {
            prop_assert!(Percent(what.clone()).parse().is_ok(), "{} for {}", what, text);
        }
        if let Some(what) = Decimal(text.clone()).parse().err().and_then(advised) {
            prop_assert!(Decimal(what.clone()).parse().is_ok(), "{} for {}", what, text);
        }
    }
}
