use super::*;

const HEADER: Header = Header {
    vendor: 0x1234,
    device: 0xda7a,
    subsystem_vendor: 0x1234,
    subsystem: 1,
    revision: 1,
    class: 0x05_8000,
    pin: 1,
};

const POWER: u16 = 0x40 + 4;
const MSI: u16 = 0x50;
const EXPRESS_CAPABILITY: u16 = 0x60;
const MSI_X: u16 = 0xa0;

fn endpoint() -> ConfigSpace {
    ConfigSpace::express(&HEADER)
        .with_memory_bar(0, BarKind::Memory64, 0x4000)
        .with_memory_bar(2, BarKind::Memory64, 0x1000)
        .with_power_management()
        .with_msi(4)
        .with_endpoint()
        .with_msi_x(3, 2, 0x800)
}

fn capabilities(space: &ConfigSpace) -> Vec<(u16, u8)> {
    let mut next = space.read(offset::CAPABILITIES, 1) as u16;
    let mut found = Vec::new();
    while next != 0 {
        found.push((next, space.read(next, 1) as u8));
        next = space.read(next + 1, 1) as u16;
    }
    found
}

#[test]
fn an_endpoint_has_its_capabilities_in_a_list() {
    let space = endpoint();
    let expected = [
        (0x40, capability::POWER_MANAGEMENT),
        (MSI, capability::MSI),
        (EXPRESS_CAPABILITY, capability::PCI_EXPRESS),
        (MSI_X, capability::MSI_X),
    ];
    assert_eq!(capabilities(&space), expected);
    assert_eq!(space.size(), 4096);
    assert_eq!(space.read(0x100, 4), 0, "no extended capabilities");
    assert_eq!(space.read(EXPRESS_CAPABILITY + 2, 2), 2);
    assert_ne!(space.read(EXPRESS_CAPABILITY + 4, 4) & 1 << 28, 0);
    assert_eq!(space.read(MSI_X + 8, 4), 0x802);
}

#[test]
fn a_conventional_function_has_nothing_beyond_256_bytes() {
    let mut space = ConfigSpace::new(&HEADER).with_msi(1);
    assert_eq!(space.read(0x100, 4), u32::MAX);
    assert!(!space.write(0x100, 4, 0));
    assert!(!space.write(0x80, 2, 0xabcd));
    assert_eq!(space.read(0x80, 2), 0xabcd, "software's own");
}

#[test]
fn a_function_level_reset_makes_everything_as_it_was() {
    for (offset, size, value) in [(8, 2, 0x8000), (8, 4, 0x8000), (9, 1, 0x80)] {
        let mut space = endpoint();
        let fresh: Vec<u32> = (0..0x400).map(|word| space.read(4 * word, 4)).collect();
        assert!(!space.write(offset::COMMAND, 2, 0x0406));
        assert!(!space.write(offset::BAR0, 4, 0xc000_0000));
        assert!(!space.write(MSI_X + 2, 2, 0x8000));
        space.write_table(0, 8, 0xfee0_0000);
        assert!(space.write(EXPRESS_CAPABILITY + offset, size, value));
        let after: Vec<u32> = (0..0x400).map(|word| space.read(4 * word, 4)).collect();
        assert_eq!(after, fresh);
        assert_eq!(space.read_table(0, 8), 0);
    }
}

#[test]
fn a_function_that_wakes_up_has_been_reset() {
    let mut space = endpoint();
    assert!(!space.write(offset::COMMAND, 2, 6));
    assert!(space.is_master());
    assert!(!space.write(POWER, 2, 1), "there is no D1");
    assert!(!space.is_asleep());
    assert!(!space.write(POWER, 2, 3));
    assert!(space.is_asleep() && !space.is_master());
    assert!(!space.write(POWER, 2, 2));
    assert!(space.is_asleep());
    assert!(space.write(POWER, 2, 0));
    assert_eq!((space.is_asleep(), space.command()), (false, 0));
}

#[test]
fn masked_messages_wait() {
    let mut space = endpoint();
    assert_eq!((space.messages(), space.send(0)), (0, None));
    assert!(!space.write(MSI_X + 2, 2, 0xc000));
    assert_eq!(space.messages(), 3);
    for number in 0..3 {
        space.write_table(16 * number, 8, 0x1_fee0_0000);
        space.write_table(16 * number + 8, 4, 0x40 + number);
    }
    space.write_table(16 + 12, 4, 0);
    assert_eq!(space.send(1), None, "all are masked");
    assert_eq!(space.send(2), None);
    assert_eq!(space.read_table(0x800, 8), 0b110);
    assert_eq!(space.take_unmasked(), []);
    assert!(!space.write(MSI_X + 2, 2, 0x8000));
    let first = MessageWrite {
        address: 0x1_fee0_0000,
        data: 0x41,
    };
    assert_eq!(space.take_unmasked(), [first]);
    assert_eq!(space.read_table(0x800, 4), 0b100);
    assert_eq!(space.send(1), Some(first));
    assert_eq!(space.send(3), None);
}

#[test]
fn msi_tells_messages_apart_by_their_last_bits() {
    let mut space = endpoint();
    assert!(!space.write(MSI + 4, 4, 0xfee0_0000));
    assert!(!space.write(MSI + 12, 2, 0x43));
    assert!(!space.write(MSI + 2, 2, 0x0021));
    assert_eq!(space.messages(), 4, "two to the number that was enabled");
    assert_eq!(space.send(2).unwrap().data, 0x42);
    assert!(!space.write(MSI + 2, 2, 0x0071));
    assert_eq!(space.messages(), 4, "and not more than there are");
}
