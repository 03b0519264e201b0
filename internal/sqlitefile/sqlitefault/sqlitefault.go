// Package sqlitefault makes SQLite files go wrong, for tests of who stores something in
// them. It must be imported before the files are opened.
package sqlitefault

import (
	"net/url"
	"path/filepath"
	"sync"

	"modernc.org/sqlite"
)

// refused has the absolute paths of the files of which each COMMIT fails.
var refused sync.Map

func init() {
	sqlite.RegisterConnectionHook(func(conn sqlite.ExecQuerierContext, dsn string) error {
		name, err := url.Parse(dsn)
		if err != nil {
			return err
		}
		conn.(sqlite.HookRegisterer).RegisterCommitHook(func() int32 {
			if _, ok := refused.Load(name.Path); ok {
				return 1
			}
			return 0
		})
		return nil
	})
}

// RefuseCommits makes COMMIT fail for whatever changes the file, until allow is called.
// The transaction is then rolled back.
func RefuseCommits(path string) (allow func()) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		panic(err)
	}
	name := filepath.ToSlash(absolute)
	refused.Store(name, true)
	return func() { refused.Delete(name) }
}
