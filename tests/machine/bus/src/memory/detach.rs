//! Guest RAM after a fork.

use std::mem::ManuallyDrop;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::fs::{MemfdFlags, SeekFrom, ftruncate, memfd_create, seek};
use rustix::io::{Errno, dup2, pwrite};
use rustix::mm::{MapFlags, ProtFlags, mmap};

use super::{MemoryError, PhysicalMemory};

impl PhysicalMemory {
    /// Gives a process that was forked guest RAM of its own, with the same contents at the same addresses. Until then
    /// it shares guest RAM with the process it comes from, which must not go on.
    ///
    /// # Errors
    /// The system gives no memory; guest RAM is then not usable.
    pub fn detach(&self) -> Result<(), MemoryError> {
        let own = memfd_create("guest-ram", MemfdFlags::CLOEXEC)
            .map_err(MemoryError::system("create guest RAM"))?;
        ftruncate(&own, self.layout.total).map_err(MemoryError::system("size guest RAM"))?;
        self.copy_to(own.as_fd())
            .map_err(MemoryError::system("copy guest RAM"))?;
        self.map_flat(own.as_fd())
            .map_err(MemoryError::system("map guest RAM"))?;
        for mapping in self.lock().mappings.values() {
            mapping.map_again(own.as_fd(), &self.layout)?;
        }
        // SAFETY: the descriptor is `self`'s and is not closed here: its number is made to stand for the new file.
        let mut number = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(self.file.as_raw_fd()) });
        dup2(&own, &mut number).map_err(MemoryError::system("exchange guest RAM"))
    }

    /// Copies all that has ever been written.
    fn copy_to(&self, own: BorrowedFd<'_>) -> Result<(), Errno> {
        let mut from = 0;
        while let Some(Range { mut start, end }) = self.written_from(from)? {
            from = end;
            while start < end {
                // SAFETY: inside the mapping of the whole file.
                let pointer = unsafe { self.flat.add(start as usize) };
                // SAFETY: mapped, and written by nobody while a process is being forked.
                let bytes =
                    unsafe { std::slice::from_raw_parts(pointer.as_ptr(), (end - start) as usize) };
                start += pwrite(own, bytes, start)? as u64;
            }
        }
        Ok(())
    }

    /// The next part of the file that is not a hole.
    fn written_from(&self, offset: u64) -> Result<Option<Range<u64>>, Errno> {
        let start = match seek(&self.file, SeekFrom::Data(offset)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            Err(error) => return Err(error),
        };
        let end = seek(&self.file, SeekFrom::Hole(start))?;
        Ok(Some(start..end))
    }

    fn map_flat(&self, file: BorrowedFd<'_>) -> Result<(), Errno> {
        // SAFETY: replaces the mapping made in `new` by another of the same size and contents.
        unsafe {
            mmap(
                self.flat.as_ptr().cast(),
                self.layout.total as usize,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::FIXED | MapFlags::NORESERVE,
                file,
                0,
            )
        }
        .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MemoryConfig, Zone};
    use super::*;

    /// Two values of one process here, as there are two processes after a fork.
    #[test]
    fn detached_memory_has_the_same_contents_and_a_life_of_its_own() {
        let memory = PhysicalMemory::new(&MemoryConfig::default()).unwrap();
        let pages = memory.allocate(Zone::High, 3).unwrap();
        let mapped = memory.map(&pages).unwrap();
        memory.write(pages[1] + 5, b"before").unwrap();
        let others_file = memory.file().try_clone_to_owned().unwrap();
        let offset = memory.file_offset(pages[1] + 5).unwrap();

        memory.detach().unwrap();

        let read = |physical| {
            let mut bytes = [0; 6];
            memory.read(physical, &mut bytes).unwrap();
            bytes
        };
        assert_eq!(&read(pages[1] + 5), b"before");
        // SAFETY: inside the mapping of three pages.
        let alias = unsafe { mapped.add(super::super::PAGE_SIZE + 5) }.cast::<[u8; 6]>();
        // SAFETY: mapped and writable.
        unsafe { alias.write(*b"after!") };
        assert_eq!(&read(pages[1] + 5), b"after!", "still one memory");
        let mut bytes = [0; 6];
        rustix::io::pread(&others_file, &mut bytes, offset).unwrap();
        assert_eq!(&bytes, b"before", "the other process's is as it was");
        assert_eq!(memory.physical(alias.as_ptr().cast()), Some(pages[1] + 5));

        memory.write(pages[2], b"later!").unwrap();
        let third = memory.map(&pages[2..]).unwrap();
        // SAFETY: mapped and readable.
        let bytes = unsafe { third.cast::<[u8; 6]>().read() };
        assert_eq!(&bytes, b"later!", "new mappings are of the new file");
    }
}
