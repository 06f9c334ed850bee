"""The parts that SEG and SR share."""
