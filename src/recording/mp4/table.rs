//! The sample tables of one track (ISO/IEC 14496-12 §8.6, §8.7), grown a fragment at a time.

use mp4_atom::{Ctts, CttsEntry, Stsc, StscEntry, Stss, Stsz, StszSamples, Stts, SttsEntry};

/// One sample as a fragment describes it, in units of the track's timescale.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub size: u32,
    pub duration: u32,
    /// Presentation minus decode time.
    pub offset: i64,
    pub sync: bool,
}

/// Samples that lie behind each other in the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where in the source.
    pub position: u64,
    pub bytes: u64,
    pub samples: u32,
}

/// Run-length tables: a day of 25 fps costs 9 MB.
#[derive(Debug, Default)]
pub struct SampleTable {
    /// Decode time of the first sample in the source.
    pub start: u64,
    /// Sum of all durations.
    pub duration: u64,
    /// When the last sample shown is over, counted from the first decode time: later than
    /// `duration` where samples are shown in another order than they are decoded.
    pub shown_until: u64,
    pub chunks: Vec<Chunk>,
    sizes: Vec<u32>,
    durations: Vec<SttsEntry>,
    offsets: Vec<CttsEntry>,
    /// Numbers of the sync samples, counted from 1.
    sync: Vec<u32>,
}

impl SampleTable {
    pub fn len(&self) -> usize {
        self.sizes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// Presentation minus decode time of the first sample.
    pub fn first_offset(&self) -> i64 {
        self.offsets.first().map_or(0, |entry| entry.sample_offset)
    }

    /// The next sample decodes at `time`: the last one so far lasts until then.
    ///
    /// Fragments state their own time, so that a hole between two is seen. Progressive tables know
    /// only durations: the sample before the hole fills it. A time before the last sample's own is
    /// left alone, since durations cannot be negative.
    pub fn seek(&mut self, time: u64) {
        if self.is_empty() {
            self.start = time;
            return;
        }
        let end = self.start + self.duration;
        let Some(last) = self.durations.last().map(|entry| entry.sample_delta) else { return };
        let wanted = i128::from(last) + i128::from(time) - i128::from(end);
        let Ok(wanted) = u32::try_from(wanted) else { return };
        if wanted == last {
            return;
        }
        self.pop_duration();
        push_duration(&mut self.durations, wanted);
        self.duration = self.duration - u64::from(last) + u64::from(wanted);
        self.note_end(self.offsets.last().map_or(0, |entry| entry.sample_offset));
    }

    /// Takes a run of samples that lies at `position` in the source.
    pub fn push_chunk(&mut self, position: u64, samples: &[Sample]) {
        let bytes = samples.iter().map(|sample| u64::from(sample.size)).sum();
        self.chunks.push(Chunk { position, bytes, samples: samples.len() as u32 });
        for sample in samples {
            self.sizes.push(sample.size);
            if sample.sync {
                self.sync.push(self.sizes.len() as u32);
            }
            push_duration(&mut self.durations, sample.duration);
            push_offset(&mut self.offsets, sample.offset);
            self.duration += u64::from(sample.duration);
            self.note_end(sample.offset);
        }
    }

    pub fn stts(&self) -> Stts {
        Stts { entries: self.durations.clone() }
    }

    /// `None` if everything is shown as it is decoded.
    pub fn ctts(&self) -> Option<Ctts> {
        let needed = self.offsets.iter().any(|entry| entry.sample_offset != 0);
        needed.then(|| Ctts { entries: self.offsets.clone() })
    }

    /// `None` if every sample is a sync sample: the box's absence says that.
    pub fn stss(&self) -> Option<Stss> {
        (self.sync.len() != self.sizes.len()).then(|| Stss { entries: self.sync.clone() })
    }

    pub fn stsz(&self) -> Stsz {
        Stsz { samples: StszSamples::Different { sizes: self.sizes.clone() } }
    }

    pub fn stsc(&self) -> Stsc {
        let mut entries: Vec<StscEntry> = Vec::new();
        for (index, chunk) in self.chunks.iter().enumerate() {
            if entries.last().is_none_or(|last| last.samples_per_chunk != chunk.samples) {
                entries.push(StscEntry {
                    first_chunk: index as u32 + 1,
                    samples_per_chunk: chunk.samples,
                    sample_description_index: 1,
                });
            }
        }
        Stsc { entries }
    }

    /// The sample added last is shown `offset` after it is decoded.
    fn note_end(&mut self, offset: i64) {
        self.shown_until = self.shown_until.max(self.duration.saturating_add_signed(offset));
    }

    fn pop_duration(&mut self) {
        if let Some(last) = self.durations.last_mut() {
            last.sample_count -= 1;
            if last.sample_count == 0 {
                self.durations.pop();
            }
        }
    }
}

fn push_duration(runs: &mut Vec<SttsEntry>, sample_delta: u32) {
    match runs.last_mut() {
        Some(run) if run.sample_delta == sample_delta => run.sample_count += 1,
        _ => runs.push(SttsEntry { sample_count: 1, sample_delta }),
    }
}

fn push_offset(runs: &mut Vec<CttsEntry>, sample_offset: i64) {
    match runs.last_mut() {
        Some(run) if run.sample_offset == sample_offset => run.sample_count += 1,
        _ => runs.push(CttsEntry { sample_count: 1, sample_offset }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(count: usize, duration: u32) -> Vec<Sample> {
        (0..count).map(|index| Sample { size: 10, duration, offset: 0, sync: index == 0 }).collect()
    }

    #[test]
    fn runs_of_equal_durations_are_one_entry() {
        let mut table = SampleTable::default();
        table.seek(0);
        table.push_chunk(100, &samples(10, 40));
        table.seek(400);
        table.push_chunk(300, &samples(10, 40));
        assert_eq!(table.stts().entries, [SttsEntry { sample_count: 20, sample_delta: 40 }]);
        assert_eq!(table.stss().map(|stss| stss.entries), Some(vec![1, 11]));
        assert_eq!(table.stsc().entries.len(), 1);
        assert_eq!(table.ctts(), None);
        assert_eq!(table.duration, 800);
    }

    #[test]
    fn a_hole_before_a_fragment_lengthens_the_sample_before_it() {
        let mut table = SampleTable::default();
        table.seek(1000);
        table.push_chunk(0, &samples(2, 40));
        table.seek(1200);
        table.push_chunk(20, &samples(1, 40));
        let deltas: Vec<_> = table.stts().entries.iter().map(|e| (e.sample_count, e.sample_delta)).collect();
        assert_eq!(deltas, [(1, 40), (1, 160), (1, 40)]);
        assert_eq!((table.start, table.duration), (1000, 240));
    }

    #[test]
    fn a_fragment_from_the_past_changes_nothing_that_was() {
        let mut table = SampleTable::default();
        table.seek(1000);
        table.push_chunk(0, &samples(2, 40));
        table.seek(500);
        assert_eq!(table.duration, 80);
    }
}
