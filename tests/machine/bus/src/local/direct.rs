//! Memory as a device reaches it that no IOMMU stands before: logical addresses are physical ones.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{MemoryError, PhysicalMemory};

/// Accesses up to this length, if they are made of aligned words, are made word by word in the order of addresses, as a
/// small packet on PCI Express is seen: a driver may look at the last word of an entry to see that it is all there.
const LONGEST_ENTRY: usize = 64;
const WORD: usize = size_of::<u64>();

/// Copies memory out.
pub(super) fn read(
    memory: &PhysicalMemory,
    physical: u64,
    buffer: &mut [u8],
) -> Result<(), MemoryError> {
    if !is_entry(physical, buffer.len()) {
        return memory.read(physical, buffer);
    }
    let words = words(memory, physical, buffer.len())?;
    for (bytes, word) in buffer.chunks_exact_mut(WORD).zip(words) {
        bytes.copy_from_slice(&word.load(Ordering::SeqCst).to_ne_bytes());
    }
    Ok(())
}

/// Copies into memory.
pub(super) fn write(
    memory: &PhysicalMemory,
    physical: u64,
    bytes: &[u8],
) -> Result<(), MemoryError> {
    if !is_entry(physical, bytes.len()) {
        return memory.write(physical, bytes);
    }
    let words = words(memory, physical, bytes.len())?;
    for (bytes, word) in bytes.as_chunks().0.iter().zip(words) {
        word.store(u64::from_ne_bytes(*bytes), Ordering::SeqCst);
    }
    Ok(())
}

fn is_entry(physical: u64, length: usize) -> bool {
    length <= LONGEST_ENTRY && length.is_multiple_of(WORD) && physical.is_multiple_of(WORD as u64)
}

fn words(
    memory: &PhysicalMemory,
    physical: u64,
    length: usize,
) -> Result<impl Iterator<Item = &AtomicU64>, MemoryError> {
    let first = memory.window(physical, length)?.cast::<u64>();
    Ok((0..length / WORD).map(move |index| {
        let word = first.as_ptr().wrapping_add(index);
        // SAFETY: inside the window, which lives as long as the memory; aligned; reached by no plain reference.
        unsafe { AtomicU64::from_ptr(word) }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryConfig;

    #[test]
    fn entries_and_other_ranges_are_copied_alike() {
        let memory = PhysicalMemory::new(&MemoryConfig::default()).unwrap();
        for (physical, length) in [
            (0x2000, 64),
            (0x2008, 8),
            (0x3001, 64),
            (0x4000, 4),
            (0x5000, 9000),
        ] {
            let bytes: Vec<u8> = (0..length).map(|index| index as u8 ^ 0x5a).collect();
            write(&memory, physical, &bytes).unwrap();
            let mut plain = vec![0; length];
            memory.read(physical, &mut plain).unwrap();
            assert_eq!(plain, bytes, "{physical:#x}");
            let mut back = vec![0; length];
            read(&memory, physical, &mut back).unwrap();
            assert_eq!(back, bytes, "{physical:#x}");
        }
    }

    #[test]
    fn what_is_no_memory_is_refused() {
        let memory = PhysicalMemory::new(&MemoryConfig::default()).unwrap();
        assert!(write(&memory, 0x9000_0000, &[0; 16]).is_err());
        assert!(read(&memory, 0x9000_0000, &mut [0; 16]).is_err());
    }
}
