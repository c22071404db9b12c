//! Laws of shares: what is shown is read back, and both ways to write one say the same.

use proptest::prelude::*;

use super::*;

fn share(billionths: u32) -> Ratio {
    Ratio { billionths }
}

proptest! {
    #[test]
    fn what_is_shown_is_read_back(billionths in 0_u32..1_000_000_000) {
        let ratio = share(billionths);
        prop_assert_eq!(ratio.to_string().parse(), Ok(ratio));
    }

    #[test]
    fn a_decimal_is_read_digit_by_digit(billionths in 0_u32..1_000_000_000, more in "[0-9]{0,9}") {
        let text = format!("0.{billionths:09}{more}");
        prop_assert_eq!(text.parse(), Ok(share(billionths)), "{}", text);
        // The same with the point two places on.
        let percent = format!("{}.{:07}%", billionths / 10_000_000, billionths % 10_000_000);
        prop_assert_eq!(percent.parse(), Ok(share(billionths)), "{}", percent);
    }

    #[test]
    fn a_larger_share_holds_out_all_that_a_smaller_one_does(
        a in 0_u32..1_000_000_000, b in 0_u32..1_000_000_000,
    ) {
        let (less, more) = (share(a.min(b)), share(a.max(b)));
        prop_assert!(less.threshold() <= more.threshold());
        let exact = f64::from(a) / 1e9;
        let drawn = share(a).threshold() as f64 / 2_f64.powi(64);
        prop_assert!((exact - drawn).abs() < 1e-15, "{} {}", exact, drawn);
    }

    #[test]
    fn no_text_is_read_as_everything_or_makes_the_reader_panic(text in "[0-9.,%+e \u{e9}-]{0,12}") {
        if let Ok(ratio) = text.parse::<Ratio>() {
            prop_assert!(ratio.billionths < 1_000_000_000);
            prop_assert!(text.bytes().any(|byte| byte.is_ascii_digit()), "{}", text);
            prop_assert!(!text.contains([',', '+', '-', 'e', '\u{e9}']), "{}", text);
        }
    }
}

#[test]
fn the_smallest_share_is_one_in_a_billion_and_less_is_nothing() {
    assert_eq!("0.000000001".parse(), Ok(share(1)));
    assert_eq!("0.0000001%".parse(), Ok(share(1)));
    assert!("0.0000000009".parse::<Ratio>().unwrap().is_zero());
    assert_eq!(share(1).threshold(), 18_446_744_073, "2^64 over a billion");
    assert_eq!("99.9999999999%".parse(), Ok(share(999_999_999)), "never all");
}
