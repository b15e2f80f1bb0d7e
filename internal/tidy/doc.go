// Package tidy checks what a compiler does not: who may import whom and why, how long functions and files get, that
// every package says what it is for, and that no test waits on the wall clock. It reads source as text and syntax
// trees from an fs.FS, so that each rule is tested on a planted violation; it knows nothing of what the code does.
package tidy
