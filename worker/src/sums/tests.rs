//! Sums on their way between devices and the host.

use super::*;

#[test]
fn sums_come_back_with_their_bits_from_wherever_they_were_made() {
    let odd = [0.1 + 0.2, f64::MIN_POSITIVE, -0.0, f64::MAX, f64::NEG_INFINITY];
    for loss in odd {
        let host = Sums::of(loss, 2.0).unwrap();
        let device = Sums::on_device(&Tensor::from(loss), &Tensor::from(2.0f64)).unwrap();
        for sums in [host, device] {
            let [read, squares] = sums.read().unwrap();
            assert_eq!((read.to_bits(), squares), (loss.to_bits(), 2.0));
        }
    }
}

#[test]
fn many_are_read_at_once_in_their_order_and_none_are_nothing() {
    let all: Vec<Sums> =
        (0..9).map(|step| Sums::of(f64::from(step), f64::from(-step)).unwrap()).collect();
    let read = read_all(all.iter()).unwrap();
    let expected: Vec<[f64; 2]> = (0..9).map(|step| [f64::from(step), f64::from(-step)]).collect();
    assert_eq!(read, expected);
    assert!(read_all(std::iter::empty()).unwrap().is_empty());
}

#[test]
fn one_value_that_is_not_finite_is_enough() {
    assert!(finite([0.0, f64::MAX]));
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert!(!finite([bad, 0.0]) && !finite([0.0, bad]), "{bad}");
    }
}

#[test]
fn sums_of_unlike_kinds_are_an_error_and_not_a_wrong_number() {
    let shapes = Sums::on_device(&Tensor::from_slice(&[1.0f64, 2.0]), &Tensor::from(1.0f64));
    assert!(shapes.is_err());
    assert_eq!(zero(Device::Cpu).unwrap().double_value(&[]), 0.0);
}
