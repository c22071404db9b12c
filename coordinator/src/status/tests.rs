//! What a member does about a call that did not go follows from the code alone.

use proto::v1;
use rounds::request::Join;

use super::*;

#[test]
fn every_refusal_has_the_code_of_what_a_member_is_to_do_and_says_why() {
    let island = || "a".to_owned();
    let table = [
        // Join again.
        (Refusal::UnknownMember { island: island(), epoch: 1 }, Code::NotFound),
        (Refusal::NotReached { island: island(), round: 9, current: 3 }, Code::NotFound),
        // Another has its place.
        (Refusal::Superseded { island: island(), epoch: 1, newest: 2 }, Code::PermissionDenied),
        (Refusal::AlreadyMember { island: island(), epoch: 1 }, Code::AlreadyExists),
        // Later.
        (Refusal::Full { max: 4 }, Code::ResourceExhausted),
        // Never.
        (Refusal::WrongRun { run: "r".into(), asked: "s".into() }, Code::FailedPrecondition),
        (Refusal::LayoutDiffers, Code::FailedPrecondition),
        (Refusal::Pieces { problem: "a gap".into() }, Code::FailedPrecondition),
        (Refusal::ThetaDiffers { round: 0 }, Code::FailedPrecondition),
        // At another epoch.
        (Refusal::ThetaDiffers { round: 1 }, Code::Aborted),
        (Refusal::OfferChanged { round: 0 }, Code::Aborted),
    ];
    for (refusal, code) in table {
        let status = refused(&refusal);
        assert_eq!((status.code(), status.message()), (code, &refusal.to_string()[..]));
    }
}

#[test]
fn ranks_that_do_not_meet_know_whether_to_try_again() {
    let island = || "a".to_owned();
    let table = [
        (MeetError::Superseded { island: island(), epoch: 1, newest: 2 }, Code::PermissionDenied),
        (MeetError::Taken { island: island(), epoch: 1, rank: 0 }, Code::AlreadyExists),
        (MeetError::Differs { island: island(), what: "the plan" }, Code::FailedPrecondition),
        (MeetError::Full, Code::ResourceExhausted),
        (MeetError::Missing { island: island(), missing: 1 }, Code::DeadlineExceeded),
        (MeetError::Stopped, Code::Unavailable),
    ];
    for (error, code) in table {
        let status = not_met(&error);
        assert_eq!((status.code(), status.message()), (code, &error.to_string()[..]));
    }
}

#[test]
fn a_coordinator_that_cannot_save_is_tried_again_and_a_defect_is_not() {
    assert_eq!(stopped(Stopped).code(), Code::Unavailable);
    let defect = Join::try_from(v1::JoinRequest::default()).unwrap_err();
    let status = malformed(&defect);
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), defect.to_string());
}
