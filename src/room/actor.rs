//! The room task: owns the state of one room and does one command at a time.
