//! What is measured beside the bytes: CPU cost, TCP_INFO, latency histograms, the environment.
