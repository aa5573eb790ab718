//! Disks of one's own, which fill, stall or turn read-only.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A file system that only this test uses; gone with it.
pub struct Disk {
    at: PathBuf,
    /// Its loop device, if it has one.
    device: Option<PathBuf>,
}

impl Disk {
    /// So small that it fills; `None` where this user may not mount one.
    pub fn small(at: &Path, mib: u32) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let size = format!("size={mib}m");
        run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", text(at)])?;
        Some(Self { at: at.to_owned(), device: None })
    }

    /// A real one, ext4 on a file, which can be stopped; `None` where this user or this system has none.
    pub fn real(at: &Path, mib: u64) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let image = at.with_extension("img");
        std::fs::File::create(&image).unwrap().set_len(mib << 20).unwrap();
        run("mkfs.ext4", &["-q", text(&image)])?;
        let device = run("losetup", &["--find", "--show", text(&image)])?;
        let disk = Self { at: at.to_owned(), device: Some(device.trim().into()) };
        run("mount", &["-t", "ext4", "-o", "errors=remount-ro", device.trim(), text(at)])?;
        Some(disk)
    }

    /// Whoever writes waits, from now on.
    pub fn stall(&self) {
        run("fsfreeze", &["--freeze", text(&self.at)]).expect("the disk stalls");
    }

    /// Writing goes on.
    pub fn go_on(&self) {
        run("fsfreeze", &["--unfreeze", text(&self.at)]).expect("the disk goes on");
    }

    /// As after an error of the device: nobody may write any more, into open files neither.
    pub fn forbid_writing(&self) {
        let device = self.device.as_ref().unwrap().file_name().unwrap();
        let trigger = Path::new("/sys/fs/ext4").join(device).join("trigger_fs_error");
        std::fs::write(trigger, "1").expect("the disk turns read-only");
    }

    /// That is mended, while nobody has a file of it open.
    pub fn allow_writing(&self) {
        run("umount", &[text(&self.at)]).expect("the disk is free");
        let device = text(self.device.as_ref().unwrap());
        let _ = Command::new("e2fsck").args(["-p", "-f", device]).output();
        run("mount", &["-t", "ext4", device, text(&self.at)]).expect("the disk can be written to again");
    }

    /// Something else takes all of its space.
    pub fn fill(&self) {
        let file = format!("of={}", self.at.join("big").display());
        assert!(run("dd", &["if=/dev/zero", "bs=4k", "status=none", &file]).is_none(), "the disk does not fill");
    }

    /// And gives it back.
    pub fn free(&self) {
        std::fs::remove_file(self.at.join("big")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run("fsfreeze", &["--unfreeze", text(&self.at)]);
        let _ = run("umount", &["--lazy", text(&self.at)]);
        if let Some(device) = &self.device {
            let _ = run("losetup", &["--detach", text(device)]);
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What it says, if it succeeds.
fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
