package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every command line in the documentation must name an existing command and existing
// flags.
func TestCommandsOfTheDocumentsExist(t *testing.T) {
	t.Parallel()
	var files []string
	for _, pattern := range []string{"../../*.md", "../../docs/*.md", "../../docs/*/*.md", "../../infra/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	helps := map[string]string{}
	help := func(command string) string {
		if text, ok := helps[command]; ok {
			return text
		}
		code, text, said := runCommand(t, "help", command)
		if code != exitDone {
			t.Errorf("tidemark help %s: %s", command, said)
		}
		if strings.Contains(text, "tidemark help settings") {
			_, settings, _ := runCommand(t, "help", "settings")
			text += settings
		}
		helps[command] = text
		return text
	}
	commands := regexp.MustCompile(`(?:^|[\s($;|])(?:bin/)?tidemark ([a-z]+)((?: [^|;&\n` + "`" + `]*)?)`)
	checked := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		whole := strings.ReplaceAll(string(text), "\\\n", " ")
		for _, block := range regexp.MustCompile("(?ms)^ *```(?:sh|console)\n(.*?)^ *```$").FindAllStringSubmatch(whole, -1) {
			for line := range strings.Lines(block[1]) {
				for _, found := range commands.FindAllStringSubmatch(line, -1) {
					if !strings.Contains(line, "bin/tidemark "+found[1]) && !strings.HasPrefix(strings.TrimSpace(line), "tidemark ") {
						continue // the name of a service or a file
					}
					for _, flag := range regexp.MustCompile(`--[a-z][a-z-]*`).FindAllString(found[2], -1) {
						checked++
						if !regexp.MustCompile(regexp.QuoteMeta(flag) + `\b`).MatchString(help(found[1])) {
							t.Errorf("%s: tidemark %s has no flag %s", file, found[1], flag)
						}
					}
					help(found[1])
				}
			}
		}
	}
	if checked < 20 {
		t.Errorf("only %d flags are named", checked)
	}
}
