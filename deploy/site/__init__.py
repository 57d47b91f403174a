"""An institution's side of a deployment: its folder, what it joined, its checks, and the processes it runs."""
