//! Frames made by ffmpeg, written by us, cut off anywhere, finalised, and judged by ffmpeg.

use std::{fs, path::Path, process::Command};

use super::*;

fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{program}: {complaints}");
    output.stdout
}

/// `(time in ms, keyframe, data)` of four seconds at 25 fps, a keyframe each second, from an IVF file.
fn encoded(folder: &Path) -> Vec<(i64, bool, Bytes)> {
    let ivf = folder.join("source.ivf");
    let options = "-v error -y -f lavfi -i testsrc2=size=160x90:rate=25 -t 4 -c:v libvpx -deadline realtime -g 25 -auto-alt-ref 0 -f ivf";
    let mut arguments: Vec<_> = options.split(' ').collect();
    arguments.push(ivf.to_str().unwrap());
    run("ffmpeg", &arguments);
    let bytes = fs::read(&ivf).unwrap();
    let (mut rest, mut frames) = (&bytes[32..], Vec::new());
    while rest.len() > 12 {
        let size = u32::from_le_bytes(*rest.first_chunk().unwrap()) as usize;
        let data = Bytes::copy_from_slice(&rest[12..12 + size]);
        // The lowest bit of a VP8 frame is 0 in a keyframe.
        frames.push((frames.len() as i64 * 40, data[0] & 1 == 0, data));
        rest = &rest[12 + size..];
    }
    assert_eq!(frames.len(), 100);
    frames
}

fn write(frames: &[(i64, bool, Bytes)]) -> Vec<u8> {
    let mut writer = Writer::new(&VideoFormat { codec: VideoCodec::Vp8, width: 160, height: 90 });
    let mut file = writer.header().to_vec();
    for (index, (ms, sync, data)) in frames.iter().enumerate() {
        writer.push(ms * 1_000_000, *sync, data.clone());
        if index % 5 == 4 {
            file.extend(writer.take_clusters());
        }
    }
    file.extend(writer.take_clusters());
    assert!(writer.is_empty());
    file
}

fn shown(path: &Path) -> Vec<String> {
    let fields = ["-v", "error", "-show_entries", "frame=pts_time,key_frame,width", "-of", "csv=p=0"];
    let text = run("ffprobe", &[&fields[..], &[path.to_str().unwrap()]].concat());
    String::from_utf8(text).unwrap().lines().map(|line| line.trim_end_matches(',').to_owned()).collect()
}

fn duration(path: &Path) -> String {
    let fields = ["-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", path.to_str().unwrap()];
    String::from_utf8(run("ffprobe", &fields)).unwrap().trim().to_owned()
}

#[test]
fn a_growing_file_plays_and_a_finished_one_knows_its_duration_and_keyframes() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("source.webm"), folder.path().join("target.webm"));
    fs::write(&source, write(&encoded(folder.path()))).unwrap();
    let growing = shown(&source);
    assert_eq!((growing.len(), growing[99].as_str()), (100, "0,3.960000,160"));
    assert_eq!(duration(&source), "N/A");
    let mut file = File::open(&source).unwrap();
    let index = read(&mut file).unwrap();
    assert!(!index.is_whole);
    let bytes = finalise(&index, &mut file, &target).unwrap();
    assert_eq!(bytes, fs::metadata(&target).unwrap().len());
    assert_eq!(shown(&target), growing);
    assert_eq!(duration(&target), "4.000000");
    let again = read(&mut File::open(&target).unwrap()).unwrap();
    assert_eq!((again.is_whole, again.duration), (true, Duration::from_secs(4)));
    // A seek goes by the cues to the keyframe before.
    let path = target.to_str().unwrap();
    let sought = run(
        "ffprobe",
        &[
            "-v",
            "error",
            "-read_intervals",
            "2.5%+#1",
            "-show_entries",
            "packet=pts_time,flags",
            "-of",
            "csv=p=0",
            path,
        ],
    );
    assert!(String::from_utf8(sought).unwrap().starts_with("2.000000,K"));
}

#[test]
fn a_file_cut_off_anywhere_keeps_all_whole_clusters() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("source.webm"), folder.path().join("target.webm"));
    let whole = write(&encoded(folder.path()));
    let mut last = 0;
    for length in (0..whole.len()).step_by(97).chain([whole.len()]) {
        fs::write(&source, &whole[..length]).unwrap();
        let mut file = File::open(&source).unwrap();
        match read(&mut file) {
            Ok(index) => {
                let frames = index.clusters.iter().map(|cluster| cluster.frames).sum::<u64>();
                assert!(frames >= last && frames % 5 == 0, "cut at {length}");
                if frames > last && frames % 30 == 0 {
                    finalise(&index, &mut file, &target).unwrap();
                    assert_eq!(shown(&target).len() as u64, frames, "cut at {length}");
                }
                last = frames;
            }
            Err(WebmError::NothingRecorded) => assert_eq!(last, 0, "cut at {length}"),
            Err(error) => panic!("cut at {length}: {error}"),
        }
    }
    assert_eq!(last, 100);
}

#[test]
fn a_long_silence_of_the_camera_and_what_is_no_webm_are_no_matter() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("source.webm"), folder.path().join("target.webm"));
    let mut frames = encoded(folder.path());
    frames.truncate(26);
    // Written at once: more than one cluster can say.
    frames[25].0 = 200_000;
    let mut writer = Writer::new(&VideoFormat { codec: VideoCodec::Vp8, width: 160, height: 90 });
    let mut bytes = writer.header().to_vec();
    frames.iter().for_each(|(ms, sync, data)| writer.push(ms * 1_000_000, *sync, data.clone()));
    bytes.extend(writer.take_clusters());
    fs::write(&source, [bytes, vec![0; 1000]].concat()).unwrap();
    let mut file = File::open(&source).unwrap();
    let index = read(&mut file).unwrap();
    finalise(&index, &mut file, &target).unwrap();
    assert_eq!(shown(&target).last().unwrap(), "1,200.000000,160");
    fs::write(&source, "I am a text and not a film. ".repeat(10)).unwrap();
    assert!(matches!(read(&mut File::open(&source).unwrap()), Err(WebmError::NotOurs(_))));
}
