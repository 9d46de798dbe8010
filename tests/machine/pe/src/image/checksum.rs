//! The checksum of an image's optional header.

/// The checksum of a file whose own checksum field is at `field`: the sum of its 16-bit words, with carries added
/// back in and the field taken as zero, plus its length.
pub(super) fn checksum(file: &[u8], field: usize) -> u32 {
    let words = file
        .chunks(2)
        .enumerate()
        .filter(|(index, _)| !(field..field + 4).contains(&(index * 2)));
    let sum = words.fold(0u32, |sum, (_, word)| {
        let sum = sum + u32::from(word[0]) + (u32::from(word.get(1).copied().unwrap_or(0)) << 8);
        (sum & 0xffff) + (sum >> 16)
    });
    sum.wrapping_add(file.len() as u32)
}
