use super::*;

type TestSlot = Slot<&'static str, u32, u32>;

/// A slot whose request has been executed, and the call that did it has not returned.
fn executing() -> (TestSlot, Call) {
    let slot = Slot::new("transaction");
    slot.take_idle().expect("it is idle");
    let call = slot.call().expect("nobody stops it");
    (slot, call)
}

/// A slot that waits for map registers.
fn waiting() -> TestSlot {
    let (slot, call) = executing();
    assert_eq!(slot.back(call), Back::Elsewhere);
    slot
}

#[test]
fn a_request_from_beginning_to_end() {
    let slot: TestSlot = Slot::new("transaction");
    assert_eq!(slot.take_running(), None);
    let idle = slot.take_idle().expect("it is idle");
    assert_eq!(slot.take_idle(), None);
    let call = slot.call().expect("nobody stops it");
    assert_eq!(slot.arrive(), Arrival::Go);
    assert_eq!(slot.put_running(1), Ok(Knock::Quiet));
    assert_eq!(slot.back(call), Back::Elsewhere);
    assert_eq!(slot.take_idle(), None);
    assert_eq!(slot.take_running(), Some(1));
    assert_eq!(slot.take_running(), None);
    assert!(!slot.is_idle());
    assert_eq!(slot.put_idle(idle), Ok(()));
    assert!(slot.is_idle());
    assert_eq!(slot.take_idle(), Some("transaction"));
}

#[test]
fn who_comes_too_early_leaves_a_knock() {
    let slot: TestSlot = Slot::new("transaction");
    slot.take_idle().expect("it is idle");
    assert_eq!(slot.take_running(), None);
    assert_eq!(slot.put_running(1), Ok(Knock::Knocked));
    assert_eq!(slot.take_running(), Some(1));
    assert_eq!(slot.put_running(2), Ok(Knock::Quiet));
}

#[test]
fn a_knock_does_not_outlive_the_request() {
    let slot: TestSlot = Slot::new("transaction");
    slot.take_idle().expect("it is idle");
    assert_eq!(slot.take_running(), None);
    assert_eq!(slot.put_idle("transaction"), Ok(()));
    slot.take_idle().expect("it is idle");
    assert_eq!(slot.put_running(1), Ok(Knock::Quiet));
}

#[test]
fn looking_into_an_idle_slot_leaves_nothing() {
    let slot: TestSlot = Slot::new("transaction");
    assert_eq!(slot.take_running(), None);
    assert_eq!(slot.stop(), Ending::Noted);
    slot.take_idle().expect("it is idle");
    assert!(!slot.is_stopping());
    assert_eq!(slot.put_running(1), Ok(Knock::Quiet));
}

#[test]
fn what_does_not_belong_in_a_full_slot_comes_back() {
    let slot: TestSlot = Slot::new("transaction");
    assert_eq!(slot.put_idle("another"), Err("another"));
    assert_eq!(slot.put_running(9), Err(9));
    assert_eq!(slot.park("another", 9), Err(("another", 9)));
    assert_eq!(slot.take_idle(), Some("transaction"));
}

#[test]
fn cancelled_before_it_is_executed_it_is_not_executed() {
    let slot: TestSlot = Slot::new("transaction");
    slot.take_idle().expect("it is idle");
    assert_eq!(slot.cancel(), Ending::Noted);
    assert_eq!(slot.call(), None);
}

#[test]
fn cancelled_while_it_waits_it_is_withdrawn() {
    let slot = waiting();
    assert_eq!(slot.cancel(), Ending::Withdraw);
    assert!(slot.withdrawn());
    assert_eq!(slot.park("transaction", 1), Err(("transaction", 1)));
    assert_eq!(slot.put_idle("transaction"), Ok(()));
}

#[test]
fn what_arrives_while_it_is_withdrawn_is_the_withdrawers() {
    let slot = waiting();
    assert_eq!(slot.stop(), Ending::Withdraw);
    assert_eq!(slot.arrive(), Arrival::Leave);
    assert_eq!(slot.not_withdrawn(), Kept::Surfaced);
    assert_eq!(slot.put_idle("transaction"), Ok(()));
}

#[test]
fn what_arrives_after_it_could_not_be_withdrawn_is_ended() {
    let slot = waiting();
    assert_eq!(slot.stop(), Ending::Withdraw);
    assert_eq!(slot.not_withdrawn(), Kept::Waits);
    assert_eq!(slot.stop(), Ending::Withdraw);
    assert_eq!(slot.not_withdrawn(), Kept::Waits);
    assert_eq!(slot.arrive(), Arrival::Stop);
}

#[test]
fn nothing_is_withdrawn_before_the_call_has_returned() {
    let (slot, call) = executing();
    assert_eq!(slot.cancel(), Ending::Noted);
    assert_eq!(slot.back(call), Back::Withdraw);
    assert!(slot.withdrawn());
}

#[test]
fn stopped_during_the_call_it_is_ended_on_arrival() {
    let (slot, call) = executing();
    assert_eq!(slot.cancel(), Ending::Noted);
    assert_eq!(slot.arrive(), Arrival::Stop);
    assert_eq!(slot.put_idle("transaction"), Ok(()));
    assert_eq!(slot.back(call), Back::Elsewhere);
}

#[test]
fn a_call_that_ends_the_transaction_gives_it_back() {
    let (slot, call) = executing();
    assert_eq!(slot.stop(), Ending::Noted);
    assert!(slot.regain(call));
    assert!(slot.is_stopping());
    assert_eq!(slot.put_idle("transaction"), Ok(()));
}

#[test]
fn who_returns_late_does_not_touch_the_next_request() {
    let (slot, first) = executing();
    assert_eq!(slot.arrive(), Arrival::Go);
    assert_eq!(slot.put_idle("transaction"), Ok(()));
    slot.take_idle().expect("it is idle");
    let second = slot.call().expect("nobody stops it");
    assert_eq!(slot.stop(), Ending::Noted);
    assert_eq!(slot.back(first), Back::Elsewhere);
    assert!(slot.regain(second));
}

#[test]
fn a_cancelled_request_is_left_to_its_cancel_routine() {
    let slot: TestSlot = Slot::new("transaction");
    slot.take_idle().expect("it is idle");
    assert_eq!(slot.put_running(1), Ok(Knock::Quiet));
    assert_eq!(slot.take_running(), Some(1));
    assert_eq!(slot.park("transaction", 5), Ok(()));
    assert_eq!(slot.stop(), Ending::Noted);
    assert_eq!(slot.cancel(), Ending::Complete("transaction", 5));
    assert_eq!(slot.put_idle("transaction"), Ok(()));
    assert!(slot.is_idle());
}

#[test]
fn who_cancels_what_is_in_somebodys_hands_is_noticed() {
    let slot: TestSlot = Slot::new("transaction");
    slot.take_idle().expect("it is idle");
    assert_eq!(slot.cancel(), Ending::Noted);
    assert_eq!(slot.put_running(1), Ok(Knock::Knocked));
    assert!(slot.is_stopping());
    assert_eq!(slot.stop(), Ending::Running);
}

#[test]
fn recalled_while_it_waits_it_is_withdrawn() {
    let slot = waiting();
    assert_eq!(slot.recall(), Ending::Withdraw);
    assert!(slot.withdrawn());
    assert!(!slot.is_stopping());
}

#[test]
fn recalled_before_it_waits_it_is_withdrawn_when_it_does() {
    let slot: TestSlot = Slot::new("transaction");
    slot.take_idle().expect("it is idle");
    assert_eq!(slot.recall(), Ending::Noted);
    let call = slot.call().expect("nobody stops it");
    assert_eq!(slot.back(call), Back::Withdraw);
    assert!(slot.withdrawn());
}

#[test]
fn recalled_too_late_it_goes_on() {
    let slot = waiting();
    assert_eq!(slot.recall(), Ending::Withdraw);
    assert_eq!(slot.not_withdrawn(), Kept::Waits);
    assert_eq!(slot.arrive(), Arrival::Go);
    assert_eq!(slot.put_running(1), Ok(Knock::Quiet));
    assert_eq!(slot.recall(), Ending::Running);
    assert_eq!(slot.take_running(), Some(1));
    assert!(!slot.is_stopping());
}

#[test]
fn what_is_mapped_while_it_is_withdrawn_is_held_until_the_withdrawer_is_back() {
    let slot = waiting();
    assert_eq!(slot.stop(), Ending::Withdraw);
    assert!(slot.arrive_mapped());
    assert_eq!(slot.put_running(1), Ok(Knock::Quiet));
    assert_eq!(slot.take_running(), None);
    assert_eq!(slot.cancel(), Ending::Running);
    assert_eq!(slot.not_withdrawn(), Kept::GoesOn);
    assert!(slot.is_wanted_back());
    assert_eq!(slot.take_running(), Some(1));
    assert_eq!(slot.put_idle("transaction"), Ok(()));
    assert!(!slot.is_wanted_back());
}

#[test]
fn what_is_mapped_while_it_is_withdrawn_and_put_in_afterwards_is_looked_at() {
    let slot = waiting();
    assert_eq!(slot.stop(), Ending::Withdraw);
    assert!(slot.arrive_mapped());
    assert_eq!(slot.not_withdrawn(), Kept::GoesOn);
    assert_eq!(slot.take_running(), None);
    assert_eq!(slot.put_running(1), Ok(Knock::Knocked));
    assert_eq!(slot.take_running(), Some(1));
}

#[test]
fn what_is_held_makes_no_room_for_the_next_request() {
    let slot = waiting();
    assert_eq!(slot.stop(), Ending::Withdraw);
    assert!(slot.arrive_mapped());
    assert_eq!(slot.put_idle("transaction"), Err("transaction"));
    assert_eq!(slot.not_withdrawn(), Kept::GoesOn);
    assert_eq!(slot.put_idle("transaction"), Ok(()));
}

#[test]
fn mapped_while_it_is_recalled_it_goes_on() {
    let slot = waiting();
    assert_eq!(slot.recall(), Ending::Withdraw);
    assert!(slot.arrive_mapped());
    assert_eq!(slot.put_running(1), Ok(Knock::Quiet));
    assert_eq!(slot.not_withdrawn(), Kept::GoesOn);
    assert!(!slot.is_stopping() && slot.is_wanted_back());
    assert_eq!(slot.take_running(), Some(1));
}

#[test]
fn what_is_mapped_goes_on_though_it_was_stopped() {
    let (slot, call) = executing();
    assert_eq!(slot.stop(), Ending::Noted);
    assert!(slot.arrive_mapped());
    assert_eq!(slot.put_running(1), Ok(Knock::Quiet));
    assert_eq!(slot.back(call), Back::Elsewhere);
    assert_eq!(slot.take_running(), Some(1));
}

#[test]
fn what_nobody_has_executed_is_not_mapped() {
    let slot: TestSlot = Slot::new("transaction");
    assert!(!slot.arrive_mapped());
    assert!(slot.is_idle());
}
