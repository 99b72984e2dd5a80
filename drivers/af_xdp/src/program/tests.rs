//! The program, run by the kernel on frames of ours.
