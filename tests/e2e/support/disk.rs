//! A small disk of a test's own, in a file: it can hang, have no room, and fail. For root alone.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::geteuid;

pub struct SmallDisk {
    image: PathBuf,
    pub path: PathBuf,
}

impl SmallDisk {
    /// A disk of so many MiB, in `folder`; `None`, said aloud: whoever runs this may not mount.
    pub fn mount(folder: &Path, name: &str, mib: u64) -> Option<SmallDisk> {
        if !geteuid().is_root() {
            println!("left out: mounting a disk needs root");
            return None;
        }
        let (image, path) = (folder.join(format!("{name}.img")), folder.join(name));
        let file = File::create(&image).expect("an image");
        file.set_len(mib << 20).expect("a sparse file");
        std::fs::create_dir(&path).expect("a mount point");
        let disk = SmallDisk { image, path };
        run("mkfs.ext4", &["-q", "-F", &text(&disk.image)]);
        run("mount", &["-o", "loop", &text(&disk.image), &text(&disk.path)]);
        Some(disk)
    }

    /// Whatever writes waits.
    pub fn hang(&self) {
        run("fsfreeze", &["-f", &text(&self.path)]);
    }

    pub fn go_on(&self) {
        run("fsfreeze", &["-u", &text(&self.path)]);
    }

    /// Takes all the room there is.
    pub fn fill(&self) {
        let mut file = File::create(self.path.join("filler")).expect("a file");
        let block = vec![1_u8; 1 << 20];
        while file.write_all(&block).is_ok() {}
        // What is left for whole blocks, bit by bit.
        while file.write_all(&block[..512]).is_ok() {}
    }

    /// Takes all the room but so many MiB.
    pub fn fill_but(&self, mib: u64) {
        let stat = rustix::fs::statvfs(&self.path).expect("a file system");
        let bytes = (stat.f_bavail * stat.f_frsize).saturating_sub(mib << 20);
        let file = File::create(self.path.join("filler")).expect("a file");
        let flags = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(&file, flags, 0, bytes).expect("there is as much room");
    }

    pub fn make_room(&self) {
        std::fs::remove_file(self.path.join("filler")).expect("the filler");
    }

    /// Nothing can be written any more, as when the file system has met an error of its device.
    pub fn fail(&self) {
        run("mount", &["-o", "remount,abort", &text(&self.path)]);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // One that hangs could not be unmounted, and holds up whoever is killed on it.
        drop(Command::new("fsfreeze").args(["-u", &text(&self.path)]).output());
        drop(Command::new("umount").args(["-l", &text(&self.path)]).output());
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
