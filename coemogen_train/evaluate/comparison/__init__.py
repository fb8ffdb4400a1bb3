"""Methods and ablations side by side: which rows there are, what each depends on, what it all says."""
