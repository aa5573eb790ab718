//! Files made by ffmpeg and by [`fragment`], cut off anywhere, finalised, and judged by ffmpeg.

use std::{fs, path::Path, process::Command, time::Duration};

use super::{
    Finalised, Mp4Error, finalise, finalise_with_chapters,
    fragment::{AudioCodec, AudioFormat, Fragmenter, TrackKind, VideoFormat},
};
use crate::room::model::Marker;

/// Six seconds of picture and tone, in fragments of half a second.
const FRAGMENTED: &str = "-f lavfi -i testsrc2=size=320x180:rate=25 -f lavfi -i sine=frequency=440:sample_rate=48000 \
     -t 6 -c:v libx264 -preset ultrafast -g 25 -c:a aac -ac 2 -frag_duration 500000 \
     -movflags +delay_moov+default_base_moof";

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn make(path: &Path, options: &str) {
    let mut arguments = vec!["-v", "error", "-y"];
    arguments.extend(options.split_whitespace());
    arguments.push(path.to_str().unwrap());
    run("ffmpeg", &arguments);
}

/// Checksums of all decoded frames of a track, in order.
fn frames(path: &Path, track: &str) -> Vec<String> {
    let path = path.to_str().unwrap();
    let text =
        run("ffmpeg", &["-v", "error", "-i", path, "-map", track, "-vsync", "passthrough", "-f", "framemd5", "-"]);
    let checksum = |line: &str| line.rsplit(',').next().map(|text| text.trim().to_owned());
    text.lines().filter(|line| !line.starts_with('#')).filter_map(checksum).collect()
}

fn probe(path: &Path, entries: &str) -> String {
    let path = path.to_str().unwrap();
    run("ffprobe", &["-v", "error", "-show_entries", entries, "-of", "csv=p=0", path]).trim().to_owned()
}

fn near(a: Duration, b: Duration, tolerance_ms: u64) -> bool {
    a.abs_diff(b) <= Duration::from_millis(tolerance_ms)
}

/// Order of the outermost boxes.
fn boxes(path: &Path) -> Vec<String> {
    let bytes = fs::read(path).unwrap();
    let (mut at, mut kinds) = (0, Vec::new());
    while at + 8 <= bytes.len() {
        let size = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        kinds.push(String::from_utf8_lossy(&bytes[at + 4..at + 8]).into_owned());
        at += match size {
            1 => u64::from_be_bytes(bytes[at + 8..at + 16].try_into().unwrap()) as usize,
            size => size,
        };
    }
    kinds
}

#[test]
fn every_frame_is_as_it_was_and_the_index_is_in_front() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("source.mp4"), folder.path().join("target.mp4"));
    for (name, codec) in [("without B-frames", "-bf 0"), ("with B-frames", "-bf 2")] {
        make(&source, &FRAGMENTED.replace("-g 25", &format!("-g 25 {codec}")));
        let before = fs::read(&source).unwrap();
        let made = finalise(&source, &target).unwrap();
        assert_eq!(fs::read(&source).unwrap(), before, "the source was touched");
        assert_eq!(boxes(&target), ["ftyp", "moov", "mdat"], "{name}");
        let (expected, found) = (frames(&source, "0:v"), frames(&target, "0:v"));
        assert_eq!((expected.len(), found.len()), (150, 150), "{name}");
        assert!(expected == found, "{name}: frames differ");
        let video = made.video.unwrap();
        assert_eq!((video.width, video.height), (320, 180));
        assert!((video.fps - 25.0).abs() < 0.01, "{name}: {}", video.fps);
        assert_eq!(made.tracks, ["avc1", "mp4a"]);
        assert_eq!(made.size_bytes, fs::metadata(&target).unwrap().len());
        assert!(near(made.duration, Duration::from_secs(6), 60), "{name}: {:?}", made.duration);
        let stated: f64 = probe(&target, "format=duration").parse().unwrap();
        assert!((stated - 6.0).abs() < 0.06, "{name}: {stated}");
        assert!(!folder.path().join("target.mp4.finalising").exists());
    }
}

#[test]
fn markers_are_chapters_and_change_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("source.mp4"), folder.path().join("target.mp4"));
    make(&source, FRAGMENTED);
    finalise(&source, &target).unwrap();
    let expected = frames(&target, "0:v");
    let marker = |at_ms, title: &str| Marker { at_ms, title: title.into() };
    let markers = [marker(0, "Beginn"), marker(1_234, "질문 & <Antwort>"), marker(4_000, &"긴".repeat(128))];
    let made = finalise_with_chapters(&source, &target, &markers, &|_| ()).unwrap();
    assert_eq!(made.size_bytes, fs::metadata(&target).unwrap().len());
    assert_eq!(boxes(&target), ["ftyp", "moov", "mdat"]);
    assert!(frames(&target, "0:v") == expected, "frames differ");
    let found = probe(&target, "chapter=start_time:chapter_tags=title");
    let long = "긴".repeat(85);
    assert_eq!(found, format!("0.000000,Beginn\n1.234000,질문 & <Antwort>\n4.000000,{long}"));
    let many: Vec<_> = (0..500).map(|index| marker(index * 10, "m")).collect();
    finalise_with_chapters(&source, &target, &many, &|_| ()).unwrap();
    assert_eq!(probe(&target, "chapter=start_time").lines().count(), 255);
}

#[test]
fn keyframes_can_be_found_and_times_are_even() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("source.mp4"), folder.path().join("target.mp4"));
    make(&source, FRAGMENTED);
    finalise(&source, &target).unwrap();
    let path = target.to_str().unwrap();
    let packets = run(
        "ffprobe",
        &["-v", "error", "-select_streams", "v", "-show_entries", "packet=pts_time,flags", "-of", "csv=p=0", path],
    );
    let keys: Vec<f64> = packets
        .lines()
        .filter(|line| line.contains('K'))
        .map(|line| line.split(',').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(keys, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn aac_priming_is_skipped_when_the_source_is_silent_about_it() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("source.mp4"), folder.path().join("target.mp4"));
    // The tone begins at 1 s exactly; without its edit list the file is late by the encoder's delay.
    let tone = "aevalsrc=exprs=0.5*sin(2*PI*1000*t)*gte(t\\,1):s=48000:d=3";
    make(&source, &format!("-f lavfi -i {tone} -c:a aac -use_editlist 0 -frag_duration 500000 -movflags +empty_moov"));
    finalise(&source, &target).unwrap();
    let onset = |path: &Path| {
        let path = path.to_str().unwrap();
        let output = Command::new("ffmpeg")
            .args(["-v", "error", "-i", path, "-f", "s16le", "-ac", "1", "-"])
            .output()
            .unwrap()
            .stdout;
        let loud = |pair: &[u8]| i16::from_le_bytes([pair[0], pair[1]]).unsigned_abs() > 3000;
        output.chunks_exact(2).position(loud).unwrap()
    };
    assert!(onset(&target).abs_diff(48_000) < 100, "tone begins at sample {}", onset(&target));
    assert!(onset(&source).abs_diff(49_024) < 100, "tone began at sample {}", onset(&source));
}

#[test]
fn a_file_cut_off_anywhere_keeps_all_whole_fragments() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("source.mp4"), folder.path().join("target.mp4"));
    make(&source, FRAGMENTED);
    let whole = fs::read(&source).unwrap();
    let all = frames(&source, "0:v");
    let moofs: Vec<usize> =
        whole.windows(4).enumerate().filter(|(_, window)| window == b"moof").map(|(at, _)| at - 4).collect();
    assert!(moofs.len() > 8);
    let cut = |length: usize| -> Result<Finalised, Mp4Error> {
        fs::write(&source, &whole[..length]).unwrap();
        finalise(&source, &target)
    };
    // In the middle of a box header, of a `moof`, of an `mdat`, and exactly between two fragments.
    for (length, fragments) in [(moofs[4] + 3, 4), (moofs[4] + 60, 4), (moofs[6] - 20, 5), (moofs[6], 6)] {
        cut(length).unwrap();
        let kept = frames(&target, "0:v");
        assert_eq!(kept, all[..kept.len()], "cut at {length}");
        let expected = (fragments as f64) * 12.5;
        assert!((kept.len() as f64 - expected).abs() <= 14.0, "cut at {length}: {} frames", kept.len());
    }
    for length in [0, 5, 20, moofs[0] - 100, moofs[0], moofs[0] + 40, moofs[1] - 1] {
        assert!(matches!(cut(length), Err(Mp4Error::NothingRecorded)), "cut at {length}");
    }
}

#[test]
fn every_single_cut_gives_a_file_or_says_that_nothing_was_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("source.mp4"), folder.path().join("target.mp4"));
    let whole = our_file(12);
    let mut last = 0;
    for length in 0..whole.len() {
        fs::write(&source, &whole[..length]).unwrap();
        match finalise(&source, &target) {
            Ok(made) => {
                let samples = (made.duration.as_secs_f64() * 25.0).round() as usize;
                assert!(samples >= last, "cut at {length}");
                last = samples;
            }
            Err(Mp4Error::NothingRecorded) => assert_eq!(last, 0, "cut at {length}"),
            Err(error) => panic!("cut at {length}: {error}"),
        }
    }
    assert!(last >= 8, "{last}");
}

#[test]
fn zeros_after_a_power_cut_and_damage_end_the_recording_there() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("source.mp4"), folder.path().join("target.mp4"));
    let whole = our_file(12);
    fs::write(&source, [whole.as_slice(), &[0; 5000]].concat()).unwrap();
    let clean = finalise(&source, &target).unwrap();
    fs::write(&source, &whole).unwrap();
    assert_eq!(finalise(&source, &target).unwrap(), clean);
    // A `trun` that claims four thousand million samples.
    let trun = whole.windows(4).rposition(|window| window == b"trun").unwrap();
    let mut damaged = whole.clone();
    damaged[trun + 8..trun + 12].copy_from_slice(&u32::MAX.to_be_bytes());
    fs::write(&source, &damaged).unwrap();
    assert!(finalise(&source, &target).unwrap().duration < clean.duration);
}

#[test]
fn what_is_no_fragmented_mp4_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("source.mp4"), folder.path().join("target.mp4"));
    fs::write(&source, "hello, I am a text and not a film").unwrap();
    assert!(matches!(finalise(&source, &target), Err(Mp4Error::NotFragmented(_))));
    make(&source, "-f lavfi -i testsrc2=size=160x90:rate=25 -t 1 -c:v libx264 -preset ultrafast");
    assert!(matches!(finalise(&source, &target), Err(Mp4Error::NotFragmented(_))));
    assert!(matches!(finalise(&folder.path().join("none.mp4"), &target), Err(Mp4Error::Read(_))));
    assert!(!target.exists());
}

#[test]
fn the_source_is_not_a_target_and_a_folder_that_is_gone_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.mp4");
    fs::write(&source, our_file(4)).unwrap();
    assert!(matches!(finalise(&source, &source), Err(Mp4Error::Write(_))));
    let named_like_ours = folder.path().join("target.mp4.finalising");
    fs::copy(&source, &named_like_ours).unwrap();
    assert!(matches!(finalise(&named_like_ours, &folder.path().join("target.mp4")), Err(Mp4Error::Write(_))));
    assert_eq!(fs::read(&named_like_ours).unwrap(), our_file(4));
    assert!(matches!(finalise(&source, &folder.path().join("gone/target.mp4")), Err(Mp4Error::Write(_))));
    assert_eq!(fs::read(&source).unwrap(), our_file(4));
}

#[test]
fn our_fragments_carry_every_byte_and_skip_what_sounds_before_the_picture() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("source.mp4"), folder.path().join("target.mp4"));
    fs::write(&source, our_file(50)).unwrap();
    let made = finalise(&source, &target).unwrap();
    assert!(near(made.duration, Duration::from_secs(2), 30), "{:?}", made.duration);
    assert_eq!(made.video.map(|video| (video.width, video.height)), Some((640, 360)));
    let packets = |path: &Path| probe(path, "packet=codec_type,pts_time,size");
    assert!(sorted(&packets(&source)) == sorted(&packets(&target)), "packets differ");
    // The audio began 30 ms before the picture.
    let start: Vec<_> = packets(&target).lines().filter(|line| line.starts_with("audio")).map(String::from).collect();
    assert!(start[0].starts_with("audio,-0.030"), "{}", start[0]);
    let bytes = fs::read(&target).unwrap();
    for frame in 0..50u8 {
        assert!(bytes.windows(64).any(|window| window.iter().all(|byte| *byte == frame + 1)), "frame {frame}");
    }
}

fn sorted(packets: &str) -> Vec<&str> {
    let mut lines: Vec<_> =
        packets.lines().map(|line| line.trim_end_matches(',')).filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    lines
}

/// `frames` pictures at 25 fps with sound, their bytes telling their numbers, in fragments of four.
fn our_file(frames: u8) -> Vec<u8> {
    let config = vec![1, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0, 4, 0x67, 0x42, 0xc0, 0x1e, 1, 0, 2, 0x68, 0xce];
    let video = VideoFormat { width: 640, height: 360, config, changes: false, reorder_ns: 0 };
    let audio = AudioFormat { rate: 48_000, channels: 2, codec: AudioCodec::Aac(vec![0x11, 0x90]) };
    let audio_start = -30_000_000;
    let mut fragmenter = Fragmenter::new(Some(&video), Some((&audio, audio_start))).unwrap();
    let mut file = fragmenter.header().to_vec();
    let mut audio_time = audio_start;
    for frame in 0..frames {
        if frame > 0 && frame % 4 == 0 {
            file.extend(fragmenter.take_fragment().unwrap());
        }
        let time = i64::from(frame) * 40_000_000;
        let data = vec![frame + 1; 64].into();
        fragmenter.push(TrackKind::Video, time, Duration::from_millis(40), frame % 25 == 0, data);
        while audio_time < time {
            fragmenter.push(TrackKind::Audio, audio_time, Duration::from_micros(21_333), true, vec![200; 20].into());
            audio_time += 21_333_333;
        }
    }
    file.extend(fragmenter.take_fragment().unwrap());
    file
}
