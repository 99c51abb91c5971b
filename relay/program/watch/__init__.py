"""What is watched beside the road: the disk's room and the clocks; asking for the halt; the message to all users."""
