//! An engine without media, for tests of room logic.
