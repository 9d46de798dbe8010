//! The card behind its socket and the card called directly do the same with the same accesses: everything that can be read
//! of it, and all of the host's memory, is equal after each.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use abi::card::ring::{Completion, Descriptor, DescriptorFlags, ShadowBlock};
use abi::card::{Direction, position, register};
use card::{
    BusError, Card, Clock, Function, HostMemory, Interrupts, Signalling, Timing, config_space,
};
use card_vfio_user::Server;
use pci_config::ConfigSpace;
use proptest::collection::vec;
use proptest::prelude::*;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, memfd_create};
use std::os::unix::fs::FileExt;
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX,
};
use vfio_user::Client;
use zerocopy::IntoBytes;

/// Where the host's memory is, and how much.
const RAM: u64 = 0x3_0000_0000;
const SIZE: usize = 0x4_0000;

const ENTRIES: u32 = 32;

/// Bytes of the card's memory.
const CARD: u64 = 64 << 20;

/// How long the served card may take to become equal.
const PATIENCE: Duration = Duration::from_secs(2);

const COMMAND: u16 = 4;
const REGISTERS: u32 = 0;

/// What is done to both.
trait Subject {
    fn config_write(&mut self, offset: u16, size: u8, value: u32);
    fn config_read(&mut self, offset: u16) -> u32;
    fn read(&mut self, offset: u64, size: u8) -> u64;
    fn write(&mut self, offset: u64, size: u8, value: u64);
    fn put(&mut self, address: u64, bytes: &[u8]);
    fn memory(&mut self) -> Vec<u8>;
    /// How often each message was sent.
    fn messages(&mut self) -> [u64; 3];
}

/// The card called directly.
struct Direct {
    card: Card,
    config: ConfigSpace,
    host: Host,
}

struct Host {
    ram: Vec<u8>,
    messages: [u64; 3],
}

impl Host {
    fn range(address: u64, length: usize) -> Result<std::ops::Range<usize>, BusError> {
        let start = usize::try_from(address.checked_sub(RAM).ok_or(BusError)?);
        let start = start.map_err(|_| BusError)?;
        let end = start.checked_add(length).filter(|end| *end <= SIZE);
        Ok(start..end.ok_or(BusError)?)
    }
}

impl HostMemory for Host {
    fn read(&mut self, address: u64, buffer: &mut [u8]) -> Result<(), BusError> {
        buffer.copy_from_slice(&self.ram[Self::range(address, buffer.len())?]);
        Ok(())
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), BusError> {
        self.ram[Self::range(address, bytes.len())?].copy_from_slice(bytes);
        Ok(())
    }
}

impl Interrupts for Host {
    fn signalling(&self) -> Signalling {
        Signalling::Messages(3)
    }

    fn send_message(&mut self, number: u16) {
        self.messages[usize::from(number)] += 1;
    }

    fn set_line(&mut self, _: bool) {}
}

impl Clock for Host {
    fn now(&self) -> u64 {
        0
    }
}

impl Direct {
    fn new() -> Self {
        Self {
            card: Card::new(CARD, Timing::IMMEDIATE).unwrap(),
            config: config_space(),
            host: Host {
                ram: vec![0; SIZE],
                messages: [0; 3],
            },
        }
    }

    fn settle(&mut self) {
        for _ in 0..100_000 {
            if self.card.next_event().is_none() {
                return;
            }
            self.card.run(&mut self.host);
        }
        panic!("the card does not come to rest");
    }
}

impl Subject for Direct {
    fn config_write(&mut self, offset: u16, size: u8, value: u32) {
        if self.config.write(offset, size, value) {
            self.card.reset(&mut self.host);
        }
        let function = Function::of(&self.config);
        self.card.configure(function, &mut self.host);
        self.settle();
    }

    fn config_read(&mut self, offset: u16) -> u32 {
        self.config.read(offset, 4)
    }

    fn read(&mut self, offset: u64, size: u8) -> u64 {
        self.card.read(offset, size, &mut self.host)
    }

    fn write(&mut self, offset: u64, size: u8, value: u64) {
        self.card.write(offset, size, value, &mut self.host);
        self.settle();
    }

    fn put(&mut self, address: u64, bytes: &[u8]) {
        HostMemory::write(&mut self.host, address, bytes).unwrap();
    }

    fn memory(&mut self) -> Vec<u8> {
        self.host.ram.clone()
    }

    fn messages(&mut self) -> [u64; 3] {
        self.host.messages
    }
}

/// The card behind a socket.
struct Served {
    client: Option<Client>,
    ram: File,
    events: [File; 3],
    messages: [u64; 3],
    server: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Served {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("card.sock");
        let server = Server::new(&socket, CARD, Timing::IMMEDIATE).unwrap();
        let server = std::thread::spawn(move || server.serve().unwrap());
        let mut client = Client::new(&socket).unwrap();
        let ram = File::from(memfd_create("ram", MemfdFlags::CLOEXEC).unwrap());
        ram.set_len(SIZE as u64).unwrap();
        client
            .dma_map(0, RAM, SIZE as u64, ram.as_raw_fd())
            .unwrap();
        let events = [(); 3].map(|()| File::from(eventfd(0, EventfdFlags::NONBLOCK).unwrap()));
        let descriptors = events.each_ref().map(AsRawFd::as_raw_fd);
        let flags = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_EVENTFD;
        client
            .set_irqs(VFIO_PCI_MSIX_IRQ_INDEX, flags, 0, 3, &descriptors)
            .unwrap();
        Self {
            client: Some(client),
            ram,
            events,
            messages: [0; 3],
            server: Some(server),
            _folder: folder,
        }
    }

    fn client(&mut self) -> &mut Client {
        self.client.as_mut().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.client.take());
        if let Some(server) = self.server.take() {
            server.join().expect("the server ends in order");
        }
    }
}

impl Subject for Served {
    fn config_write(&mut self, offset: u16, size: u8, value: u32) {
        let bytes = &value.to_le_bytes()[..size.into()];
        self.client()
            .region_write(VFIO_PCI_CONFIG_REGION_INDEX, offset.into(), bytes)
            .unwrap();
    }

    fn config_read(&mut self, offset: u16) -> u32 {
        let mut bytes = [0; 4];
        self.client()
            .region_read(VFIO_PCI_CONFIG_REGION_INDEX, offset.into(), &mut bytes)
            .unwrap();
        u32::from_le_bytes(bytes)
    }

    fn read(&mut self, offset: u64, size: u8) -> u64 {
        let mut bytes = [0; 8];
        self.client()
            .region_read(REGISTERS, offset, &mut bytes[..size.into()])
            .unwrap();
        u64::from_le_bytes(bytes)
    }

    fn write(&mut self, offset: u64, size: u8, value: u64) {
        let bytes = value.to_le_bytes();
        self.client()
            .region_write(REGISTERS, offset, &bytes[..size.into()])
            .unwrap();
    }

    fn put(&mut self, address: u64, bytes: &[u8]) {
        self.ram.write_all_at(bytes, address - RAM).unwrap();
    }

    fn memory(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; SIZE];
        self.ram.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    fn messages(&mut self) -> [u64; 3] {
        for (event, total) in self.events.iter_mut().zip(&mut self.messages) {
            let mut count = [0; 8];
            if event.read(&mut count).is_ok() {
                *total += u64::from_ne_bytes(count);
            }
        }
        self.messages
    }
}

/// Something that is done to both.
#[derive(Clone, Debug)]
enum Act {
    /// A transfer of some pieces: where in host memory, where in the card's, and how long.
    Transfer(Direction, Vec<(u64, u64, u32)>, u32),
    /// Whatever may be written to a register.
    Write(u64, u8, u64),
    /// Something is written where rings, shadow blocks and data are.
    Scribble(u64, Vec<u8>),
    Abort(Direction, u32),
    Master(bool),
    FunctionReset,
    Enable(Direction, bool),
}

fn direction() -> impl Strategy<Value = Direction> {
    prop::sample::select(Direction::ALL.to_vec())
}

/// An offset and a size that a processor can access. Not moderation: the card that is called directly has no time.
fn register_in_page() -> impl Strategy<Value = (u64, u8)> {
    let moderation = register::MODERATION.offset() as u64;
    let narrow = (0..0x12_u64).prop_map(|word| (word * 4, 4));
    let wide = (0..9_u64).prop_map(|word| (word * 8, 8));
    prop_oneof![narrow, wide].prop_filter("moderation", move |(offset, _)| *offset != moderation)
}

fn act() -> impl Strategy<Value = Act> {
    let piece = (0..SIZE as u64 + 0x1000, 0..0x2_0000_u64, 0..0x4000_u32);
    let register = (0..3_u64, register_in_page(), any::<u64>());
    prop_oneof![
        8 => (direction(), vec(piece, 1..4), 0..16_u32).prop_map(|(d, p, f)| Act::Transfer(d, p, f)),
        1 => register.prop_map(|(page, (offset, size), value)| Act::Write(page * 0x1000 + offset, size, value)),
        1 => (0..SIZE as u64 - 64, vec(any::<u8>(), 1..64)).prop_map(|(at, bytes)| Act::Scribble(at, bytes)),
        1 => (direction(), any::<u32>()).prop_map(|(d, tag)| Act::Abort(d, tag)),
        1 => prop::bool::weighted(0.8).prop_map(Act::Master),
        1 => Just(Act::FunctionReset),
        3 => (direction(), any::<bool>()).prop_map(|(d, shadow)| Act::Enable(d, shadow)),
    ]
}

fn rings(direction: Direction) -> u64 {
    RAM + 0x1000 * direction.index() as u64
}

/// What a driver knows.
#[derive(Clone, Default)]
struct Driver {
    producers: [u32; 2],
    tag: u32,
}

impl Driver {
    fn perform(&mut self, act: &Act, subject: &mut impl Subject) {
        match act {
            Act::Transfer(direction, pieces, flags) => {
                self.tag += 1;
                self.transfer(*direction, pieces, *flags, subject);
            }
            Act::Write(offset, size, value) => subject.write(*offset, *size, *value),
            Act::Scribble(at, bytes) => subject.put(RAM + at, bytes),
            Act::Abort(direction, tag) => {
                let at = direction.window() + register::ABORT_TAG.offset();
                subject.write(at as u64, 4, (*tag).into());
            }
            Act::Master(on) => subject.config_write(COMMAND, 2, if *on { 6 } else { 2 }),
            Act::FunctionReset => {
                // Device Control, in the PCI Express capability.
                subject.config_write(0x68, 2, 0x8000);
                subject.config_write(COMMAND, 2, 6);
            }
            Act::Enable(direction, shadow) => self.enable(*direction, *shadow, subject),
        }
    }

    fn enable(&mut self, direction: Direction, shadow: bool, subject: &mut impl Subject) {
        let base = rings(direction);
        self.producers[direction.index()] = 0;
        subject.write(
            (direction.window() + register::CHANNEL_CONTROL.offset()) as u64,
            4,
            0,
        );
        subject.put(base, &[0; 0x1000]);
        subject.write(register::INTERRUPT_ENABLE.offset() as u64, 4, 0x303);
        let completions = base + u64::from(ENTRIES) * Descriptor::SIZE as u64;
        let block = completions + u64::from(ENTRIES) * Completion::SIZE as u64;
        let control = if shadow { 0b1111 } else { 0b0001 };
        for (offset, size, value) in [
            (register::DESCRIPTOR_RING.offset(), 8, base),
            (register::COMPLETION_RING.offset(), 8, completions),
            (register::SHADOW.offset(), 8, block),
            (register::ENTRIES.offset(), 4, ENTRIES.into()),
            (register::MESSAGE.offset(), 4, 1 + direction.index() as u64),
            (register::CHANNEL_CONTROL.offset(), 4, control),
        ] {
            subject.write((direction.window() + offset) as u64, size, value);
        }
    }

    fn transfer(
        &mut self,
        direction: Direction,
        pieces: &[(u64, u64, u32)],
        flags: u32,
        subject: &mut impl Subject,
    ) {
        let base = rings(direction);
        let producer = &mut self.producers[direction.index()];
        for (index, &(bus, card_address, length)) in pieces.iter().enumerate() {
            let chain = if index + 1 < pieces.len() {
                DescriptorFlags::CHAIN.bits()
            } else {
                0
            };
            let descriptor = Descriptor {
                bus_address: RAM + 0x2000 + bus,
                card_address,
                length,
                flags: flags & !DescriptorFlags::CHAIN.bits() | chain,
                tag: self.tag,
                reserved: 0,
            };
            let entry = position::entry(*producer, ENTRIES);
            *producer = producer.wrapping_add(1);
            subject.put(base + u64::from(entry) * 32, descriptor.as_bytes());
        }
        let block = base + u64::from(ENTRIES) * 64 + ShadowBlock::PRODUCER as u64;
        subject.put(block, &producer.to_le_bytes());
        let doorbell = direction.window() + register::DOORBELL.offset();
        subject.write(doorbell as u64, 4, (*producer).into());
    }
}

/// Everything that can be seen.
fn state(subject: &mut impl Subject) -> (Vec<u64>, Vec<u32>, Vec<u8>, [u64; 3]) {
    let global = [0x00, 0x04, 0x20, 0x28, 0x30, 0x34].map(|offset| (offset, 4));
    let narrow = [0x00, 0x04, 0x20, 0x24, 0x28].map(|offset| (offset, 4));
    let wide = [0x08, 0x10, 0x18, 0x30, 0x38, 0x40].map(|offset| (offset, 8));
    let channels = [0x1000, 0x2000].into_iter().flat_map(|page| {
        let registers = narrow.into_iter().chain(wide);
        registers.map(move |(offset, size)| (page + offset, size))
    });
    let registers = global.into_iter().chain(channels);
    let registers = registers.map(|(offset, size)| subject.read(offset, size));
    let registers = registers.collect();
    let config = (0..0x40)
        .map(|word| subject.config_read(word * 4))
        .collect();
    (registers, config, subject.memory(), subject.messages())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_served_card_does_what_the_card_does(acts in vec(act(), 1..40)) {
        let (mut direct, mut served) = (Direct::new(), Served::new());
        let (mut one, mut other) = (Driver::default(), Driver::default());
        let start = [
            Act::Master(true),
            Act::Enable(Direction::ToCard, false),
            Act::Enable(Direction::FromCard, true),
        ];
        for act in start.iter().chain(&acts) {
            one.perform(act, &mut direct);
            other.perform(act, &mut served);
            let expected = state(&mut direct);
            let begun = Instant::now();
            // The served card takes its time.
            loop {
                let found = state(&mut served);
                if found == expected {
                    break;
                }
                if begun.elapsed() > PATIENCE {
                    prop_assert_eq!(&found.0, &expected.0, "registers after {:?}", act);
                    prop_assert_eq!(&found.1, &expected.1, "configuration after {:?}", act);
                    prop_assert_eq!(&found.3, &expected.3, "messages after {:?}", act);
                    prop_assert!(found.2 == expected.2, "memory after {:?}", act);
                }
                std::thread::sleep(Duration::from_micros(50));
            }
        }
    }
}

#[test]
fn a_client_that_comes_back_finds_the_card_reset_with_its_memory() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("card.sock");
    let server = Server::new(&socket, CARD, Timing::IMMEDIATE).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            server.serve().unwrap();
            server.serve().unwrap();
        });
        for _ in 0..2 {
            let mut client = Client::new(&socket).unwrap();
            let mut enabled = [0; 4];
            client.region_read(REGISTERS, 0x28, &mut enabled).unwrap();
            assert_eq!(enabled, [0; 4]);
            client.region_write(REGISTERS, 0x28, &[3, 0, 0, 0]).unwrap();
            client.region_read(REGISTERS, 0x28, &mut enabled).unwrap();
            assert_eq!(enabled, [3, 0, 0, 0]);
        }
    });
}
