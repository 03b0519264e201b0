package generator

import "math/rand/v2"

// A page is a node of the tree that users walk. Two nodes may have one name.
type page struct {
	name string
	next []*page // where a user on it may be after a step: the page, its children, its parent
}

// newPage returns a page above the given children.
func newPage(name string, children ...*page) *page {
	p := &page{name: name}
	p.next = append(append(p.next, p), children...)
	for _, child := range children {
		child.next = append(child.next, p)
	}
	return p
}

// step returns where a user who is on p is after one step.
func (p *page) step(random *rand.Rand) *page { return p.next[random.IntN(len(p.next))] }

// newPageTree returns the root of the lab's tree, which has 16 nodes and 15
// names: bacteria.html is also its own child.
func newPageTree() *page {
	return newPage("home.html",
		newPage("archea.html", newPage("archaea.html")),
		newPage("bacteria.html", newPage("bacteria.html")),
		newPage("eucharya.html",
			newPage("protozoa.html", newPage("amoebozoa.html")),
			newPage("chromista.html", newPage("cryptista.html")),
			newPage("plantae.html", newPage("coniferophyta.html")),
			newPage("fungi.html", newPage("blastocladiomycota.html")),
			newPage("animalia.html", newPage("acanthocephala.html")),
		),
	)
}
