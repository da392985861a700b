"""What an admin runs: a first site file, its checks, and the doctor."""
