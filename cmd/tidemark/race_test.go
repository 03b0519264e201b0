//go:build race

package main

// raceEnabled is whether the race detector, which multiplies memory, is on.
const raceEnabled = true
