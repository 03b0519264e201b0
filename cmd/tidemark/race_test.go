//go:build race

package main

// raceEnabled says whether the race detector is on. It makes a program need much more
// memory.
const raceEnabled = true
